//! Roles whose sessions begin with other defaults of transactions.

use crate::database::operations::{rows, run};
use crate::database::privileges::documented;
use crate::support::fixtures::{
    Recorded, Role, active, eventually, raw, recorded, request, setting,
};
use crate::support::{TestDatabase, connect, options};
use futures_util::future::join_all;
use model_experiments::recording::{Outcome, Record, Usage};
use model_experiments::routing::{Route, Subject};
use model_experiments::{Recorder, RecorderOptions, RoutingCache, RoutingOptions, experiments};
use std::time::Duration;
use tokio::task::yield_now;

/// The defaults, each of which an operator may set for a role or a database.
const DEFAULTS: [&str; 3] = [
    "default_transaction_isolation = 'repeatable read'",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_read_only = on",
];

/// The application name of the cache's connections.
const NAME: &str = "cache of a role";

#[tokio::test]
async fn every_operation_works_whatever_the_default_of_transactions_is() {
    for default in DEFAULTS {
        let db = TestDatabase::new().await;
        let owner = &mut db.connect().await;
        let role = Role::new(owner, "GRANT ALL ON ALL TABLES IN SCHEMA public TO $role").await;
        role.sql(owner, &format!("ALTER ROLE $role SET {default}")).await;
        let conn = &mut connect(&role.login(owner, &db.url()).await).await.unwrap();
        let (name, _) = default.split_once(" = ").unwrap();
        assert!(default.contains(&setting(conn, name).await), "{default}");

        let rows = rows(owner).await;
        let mut operations: Vec<_> =
            documented().into_iter().map(|(operation, _)| operation).collect();
        let count = operations.len();
        // Each is committed: what ends an experiment or a draft comes last. The draft isn't
        // activated, but the experiment that was paused.
        let last = ["record and attribute", "remove_variant", "complete", "delete"];
        operations.retain(|of| *of != "activate" && !last.contains(of));
        assert_eq!(operations.len(), count - 1 - last.len());
        for operation in operations {
            assert_eq!(run(conn, operation, &rows).await, Ok(()), "{operation}: {default}");
        }
        experiments::activate(conn, rows.active.experiment.id).await.unwrap();
        for operation in last {
            assert_eq!(run(conn, operation, &rows).await, Ok(()), "{operation}: {default}");
        }
        role.drop(owner).await;
    }
}

#[tokio::test]
async fn a_recorder_writes_whatever_the_default_of_transactions_is() {
    const RECORDS: i64 = 300;
    for default in DEFAULTS {
        let db = TestDatabase::new().await;
        let owner = &mut db.connect().await;
        let served = active(owner, "partner/foo").await.control_version.id;
        let role = Role::new(owner, "GRANT ALL ON ALL TABLES IN SCHEMA public TO $role").await;
        role.sql(owner, &format!("ALTER ROLE $role SET {default}")).await;
        let connect = options(&role.login(owner, &db.url()).await);
        for billing_first in [false, true] {
            let options = RecorderOptions::default().billing_first(billing_first);
            let recorder = Recorder::start(&connect, options).await.unwrap();
            let records = (0..RECORDS).map(async |_| {
                let record = Record::new(Usage::new("user-1"), request(served));
                // The second is already recorded.
                for outcome in [Outcome::Recorded, Outcome::AlreadyRecorded] {
                    let receipt = recorder.submit(record.clone()).await.unwrap();
                    assert_eq!(receipt.await, Ok(outcome));
                }
            });
            join_all(records).await;
            assert!(recorder.shutdown(Duration::from_secs(9)).await.is_empty());
        }
        assert_eq!(recorded(owner).await, Recorded::both(2 * RECORDS), "{default}");
        role.drop(owner).await;
    }
}

#[tokio::test]
async fn a_cache_needs_no_transaction_that_writes() {
    let db = TestDatabase::new().await;
    let owner = &mut db.connect().await;
    let experiment = active(owner, "partner/foo").await.experiment.id;
    let role = Role::new(owner, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO $role").await;
    role.sql(owner, "ALTER ROLE $role SET default_transaction_read_only = on").await;
    let connect = options(&role.login(owner, &db.url()).await).application_name(NAME);
    let hour = Duration::from_secs(3_600);
    let options = RoutingOptions::default().poll_interval(hour).max_staleness(2 * hour);
    let cache = RoutingCache::start(&connect, options).await.unwrap();
    let pick = || cache.pick("partner/foo", Subject::user("user-1"));
    assert!(matches!(pick(), Route::Serve(_)));
    // It listens.
    experiments::pause(owner, experiment).await.unwrap();
    eventually("the pause is seen", async || {
        yield_now().await;
        pick() == Route::Paused
    })
    .await;
    // And again, over other connections.
    let kill = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{NAME}'"
    );
    raw(owner, &kill).await.unwrap();
    experiments::activate(owner, experiment).await.unwrap();
    eventually("the activation is seen", async || {
        yield_now().await;
        matches!(pick(), Route::Serve(_))
    })
    .await;
    drop(cache);
    role.drop(owner).await;
}
