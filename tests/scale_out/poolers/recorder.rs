//! A recorder behind a pooler.

use model_experiments::recording::{Outcome, Record, Usage};
use model_experiments::{Recorder, RecorderOptions};
use std::time::{Duration, Instant};
use tokio::time::timeout;

use crate::poolers::{WORKING, pool};
use crate::support::fixtures::{Recorded, active, raw, recorded, request};
use crate::support::{TestDatabase, options};

/// The longest isolation of a blocked record.
const ISOLATION: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_blocked_record_keeps_no_other_from_being_recorded() {
    for mode in WORKING {
        let database = TestDatabase::new().await;
        let conn = &mut database.connect().await;
        let version = active(conn, "partner/foo").await.control_version.id;
        let locked = active(conn, "partner/locked").await.control_version.id;
        let ignored = ["ignore_startup_parameters = extra_float_digits,options"];
        let Some((_pooler, url)) = mode.start(&database, &ignored) else { return };
        let recorder = Recorder::start(&options(&url), RecorderOptions::default()).await.unwrap();
        let submit = |version| {
            let record = Record::new(Usage::new("user-1"), request(version));
            recorder.try_submit(record).unwrap()
        };
        let holder = &mut database.connect().await;
        let hold = format!(
            "BEGIN; SELECT FROM model_experiment_variant_version WHERE id = '{locked}' FOR UPDATE"
        );
        raw(holder, &hold).await.unwrap();
        let blocked = submit(locked);
        let others: Vec<_> = (0..49).map(|_| submit(version)).collect();
        let start = Instant::now();
        for receipt in others {
            let outcome = timeout(ISOLATION, receipt).await.expect("the others are recorded");
            assert_eq!(outcome, Ok(Outcome::Recorded));
        }
        println!("49 others recorded in {:.1?}", start.elapsed());
        assert_eq!(recorded(conn).await, Recorded::both(49));
        raw(holder, "ROLLBACK").await.unwrap();
        let outcome = timeout(ISOLATION, blocked).await.expect("it is recorded at last");
        assert_eq!(outcome, Ok(Outcome::Recorded));
        assert_eq!(recorder.shutdown(ISOLATION).await, []);
        assert_eq!(recorded(conn).await, Recorded::both(50));
    }
}

#[tokio::test]
async fn a_restart_of_the_pooler_loses_nothing() {
    for mode in WORKING {
        let database = TestDatabase::new().await;
        let conn = &mut database.connect().await;
        let version = active(conn, "partner/foo").await.control_version.id;
        let Some((mut pooler, url)) = mode.start(&database, &[]) else { return };
        let recorder = Recorder::start(&options(&url), RecorderOptions::default()).await.unwrap();
        let pool = pool(options(&url), 1);
        pool.health().await.unwrap();
        let mut receipts = Vec::new();
        let mut submit = || {
            let record = Record::new(Usage::new("user-1"), request(version));
            receipts.push(recorder.try_submit(record).unwrap());
        };
        submit();
        pooler.stop();
        submit();
        assert!(pool.health().await.unwrap_err().is_retryable());
        pooler.restart();
        let start = Instant::now();
        submit();
        for receipt in receipts {
            let outcome = timeout(ISOLATION, receipt).await.expect("it is recorded at last");
            assert!(outcome.is_ok(), "{outcome:?}");
        }
        println!("all recorded {:.1?} after the restart", start.elapsed());
        pool.health().await.unwrap();
        assert_eq!(recorded(conn).await, Recorded::both(3));
    }
}

#[tokio::test]
async fn who_finds_no_server_connection_is_told_to_try_again() {
    for mode in WORKING.into_iter().filter(|mode| mode.is_session) {
        let database = TestDatabase::new().await;
        let Some((_pooler, url)) = mode.start(&database, &["default_pool_size = 1"]) else {
            return;
        };
        let only = options(&url).connect().await.unwrap();
        let start = Instant::now();
        let refused = options(&url).connect().await.map(drop).unwrap_err();
        println!("told after {:.1?}: {refused}", start.elapsed());
        assert!(refused.is_retryable(), "{refused:?}");
        assert!(start.elapsed() < ISOLATION);
        drop(only);
        options(&url).connect().await.unwrap();
    }
}
