//! The recorder: whatever was taken is recorded once, or its caller hears why not.

use crate::support::TestDatabase;
use crate::support::fixtures::{active, counts, request};
use diesel_async::AsyncPgConnection;
use model_experiments::operations::record::{Outcome, Record};
use model_experiments::tables::usages::Usage;
use model_experiments::values::VersionId;
use model_experiments::{Recorder, RecorderOptions};
use std::time::Duration;

/// Longer than any machine needs.
const LONG: Duration = Duration::from_secs(60);

/// An experiment's database, with a connection and a version to attribute requests to.
async fn database() -> (TestDatabase, AsyncPgConnection, VersionId) {
    let db = TestDatabase::new().await;
    let mut conn = db.connect().await;
    let version = active(&mut conn, "partner/foo").await.control_version.id;
    (db, conn, version)
}

fn record(version: VersionId) -> Record {
    Record::new(Usage::new("user-1"), request(version))
}

async fn recorded(conn: &mut AsyncPgConnection) -> [i64; 2] {
    let [.., usages, requests] = counts(conn).await;
    [usages, requests]
}

#[tokio::test]
async fn what_is_taken_is_recorded() {
    for options in [RecorderOptions::default(), RecorderOptions::default().billing_first(true)] {
        let (db, mut conn, version) = database().await;
        let recorder = Recorder::start(&db.url(), options).await.unwrap();
        let mut receipts = Vec::new();
        for _ in 0..1_000 {
            receipts.push(recorder.record(record(version)).await.unwrap());
        }
        for receipt in receipts {
            assert_eq!(receipt.await, Ok(Outcome::Recorded));
        }
        assert_eq!(recorder.shutdown(LONG).await, []);
        assert_eq!(recorder.len(), 0);
        assert_eq!(recorded(&mut conn).await, [1_000, 1_000]);
    }
}
