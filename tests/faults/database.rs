//! A database that rows are recorded in, with what its host has there.

use model_experiments::migrations;
use model_experiments::values::{UsageId, VersionId};
use std::collections::HashSet;

use crate::ledger::Ledger;
use crate::support::fixtures::{active, raw};
use crate::support::postgres::Server;
use crate::support::{connect, options};

/// A rule on usages, and a disk that is full for as many insertions as `disk_full` is below one. A
/// sequence isn't rolled back.
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

/// A database with the schema, and what is recorded there.
pub struct Database {
    pub url: String,
    pub ledger: Ledger,
    /// The version that serves what is recorded.
    pub version: VersionId,
}

impl Database {
    /// A new database on `server`.
    pub async fn create(server: &Server, name: &str, billing_first: bool) -> Self {
        let maintenance = &mut connect(&server.url("postgres")).await.unwrap();
        raw(maintenance, &format!("CREATE DATABASE {name}")).await.unwrap();
        let url = server.url(name);
        migrations::run(&options(&url)).await.unwrap();
        let conn = &mut connect(&url).await.unwrap();
        let version = active(conn, "partner/foo").await.control_version.id;
        raw(conn, HOST).await.unwrap();
        Self { url, ledger: Ledger::new(billing_first), version }
    }

    /// What of the ledger isn't borne out, where the usages in `lost` were said to be lost and
    /// nobody waited.
    pub async fn check(&self, lost: &HashSet<UsageId>) -> Vec<String> {
        self.ledger.check(&mut connect(&self.url).await.unwrap(), lost).await
    }
}
