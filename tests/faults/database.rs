//! A database to record in, with the rules of its host.

use model_experiments::migrations;
use model_experiments::values::{UsageId, VersionId};
use std::collections::HashSet;

use crate::ledger::Ledger;
use crate::support;
use crate::support::fixtures::{active, raw};
use crate::support::postgres::Server;

/// The host's rule on usages, and a disk that is full while the sequence `disk_full` is below 1.
///
/// Each insertion takes a number of the sequence, which no rollback returns.
const HOST: &str = r#"
    ALTER TABLE microdollar_usage ADD CONSTRAINT host_rule CHECK (cost >= 0);
    CREATE SEQUENCE disk_full MINVALUE -1000 START 1;
    CREATE FUNCTION insert_on_disk() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('disk_full') <= 0 THEN
            RAISE 'could not extend file "base/1/2": No space left on device'
                USING ERRCODE = 'disk_full';
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER on_disk BEFORE INSERT ON microdollar_usage
        FOR EACH STATEMENT EXECUTE FUNCTION insert_on_disk();
    CREATE TRIGGER on_disk BEFORE INSERT ON model_experiment_request
        FOR EACH STATEMENT EXECUTE FUNCTION insert_on_disk();
"#;

/// A database with the schema, and the ledger of what is recorded there.
pub struct Database {
    pub url: String,
    pub ledger: Ledger,
    /// The version that serves all requests.
    pub version: VersionId,
}

impl Database {
    /// Creates a database on `server`.
    pub async fn create(server: &Server, name: &str, billing_first: bool) -> Self {
        let maintenance = &mut support::connect(&server.url("postgres")).await.unwrap();
        raw(maintenance, &format!("CREATE DATABASE {name}")).await.unwrap();
        let url = server.url(name);
        migrations::run(&support::options(&url)).await.unwrap();
        let conn = &mut support::connect(&url).await.unwrap();
        let version = active(conn, "partner/foo").await.control_version.id;
        raw(conn, HOST).await.unwrap();
        Self { url, ledger: Ledger::new(billing_first), version }
    }

    /// The violations of the ledger's rules. `lost` are the usages that were logged as lost.
    pub async fn check(&self, lost: &HashSet<UsageId>) -> Vec<String> {
        self.ledger.check(&mut support::connect(&self.url).await.unwrap(), lost).await
    }
}
