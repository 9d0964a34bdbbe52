//! A database whose commits cost what a service's commits cost: on a disk, and flushed to it.

use model_experiments::values::VersionId;
use model_experiments::{AsyncPgConnection, ConnectOptions, migrations};

use crate::support;
use crate::support::fixtures::{active, number, raw};
use crate::support::postgres::{Binaries, Server};

/// Number of active experiments, of two versions each.
const EXPERIMENTS: usize = 4;

/// Disables work that affects only one side of a ratio. Sets the WAL level that a replica needs.
const SETTINGS: [&str; 2] = ["autovacuum=off", "wal_level=replica"];

/// A database with versions to attribute requests to.
pub struct Database {
    server: Server,
    pub versions: Vec<VersionId>,
}

/// Totals over all recorded rows.
#[derive(Debug, PartialEq, Eq)]
pub struct Totals {
    pub usages: usize,
    pub requests: usize,
    pub tokens: i64,
}

impl Database {
    pub async fn new() -> Self {
        let binaries = Binaries::find(|message| eprintln!("{message}")).unwrap();
        let server = Server::durable(&binaries, &SETTINGS).unwrap();
        let mut database = Self { server, versions: Vec::new() };
        migrations::run(&database.options()).await.unwrap();
        let conn = &mut database.connect().await;
        for model in 0..EXPERIMENTS {
            let ready = active(conn, &format!("partner/{model}")).await;
            database.versions.extend([ready.control_version.id, ready.candidate_version.id]);
        }
        database
    }

    pub fn url(&self) -> String {
        self.server.url("postgres")
    }

    pub fn options(&self) -> ConnectOptions {
        support::options(&self.url())
    }

    /// Sets `synchronous_commit` for every connection from now on.
    pub async fn set_synchronous_commit(&self, setting: &str) {
        let sql = format!("ALTER DATABASE postgres SET synchronous_commit = {setting}");
        raw(&mut self.connect().await, &sql).await.unwrap();
    }

    /// Empties the tables and starts a new checkpoint.
    pub async fn clear(&self) {
        let conn = &mut self.connect().await;
        raw(conn, "SET session_replication_role = replica; TRUNCATE microdollar_usage, model_experiment_request; RESET session_replication_role").await.unwrap();
        raw(conn, "CHECKPOINT").await.unwrap();
    }

    pub async fn totals(&self) -> Totals {
        let conn = &mut self.connect().await;
        let mut select = async |what: &str| {
            let sql = format!(
                "SELECT {what}::bigint AS number
                FROM microdollar_usage u LEFT JOIN model_experiment_request r ON r.usage_id = u.id"
            );
            number(conn, &sql).await
        };
        Totals {
            usages: usize::try_from(select("count(*)").await).unwrap(),
            requests: usize::try_from(select("count(r.usage_id)").await).unwrap(),
            tokens: select("coalesce(sum(input_tokens + output_tokens), 0)").await,
        }
    }

    async fn connect(&self) -> AsyncPgConnection {
        self.options().connect().await.unwrap()
    }
}
