//! Migrations through a pooler.

use model_experiments::migrations;
use std::time::Duration;

use crate::poolers::WORKING;
use crate::support::fixtures::number;
use crate::support::{TestDatabase, options};

#[tokio::test]
async fn leave_no_lock_and_end_again() {
    for mode in WORKING {
        let database = TestDatabase::empty().await;
        let Some((_pooler, url)) = mode.start(&database, &["default_pool_size = 1"]) else {
            return;
        };
        let connect = options(&url);
        assert!(!migrations::run(&connect).await.unwrap().is_empty());
        let locks = "SELECT count(*) AS number FROM pg_locks
            WHERE pid <> pg_backend_pid() AND (locktype = 'advisory' OR database =
                (SELECT oid FROM pg_database WHERE datname = current_database()))";
        assert_eq!(number(&mut database.connect().await, locks).await, 0);
        let again = migrations::run_within(&connect, Duration::from_secs(10)).await.unwrap();
        assert!(again.is_empty());
        assert!(migrations::pending(&connect).await.unwrap().is_empty());
    }
}
