//! What was current at an instant is settled one minute after it.

use crate::support::TestDatabase;
use crate::support::fixtures::{active, raw, raw_unguarded};
use chrono::Duration;
use diesel_async::AsyncPgConnection;
use model_experiments::values::{Timestamp, VariantId};
use model_experiments::{Error, experiments};

/// A variant whose version was published a day ago.
async fn published_a_day_ago(conn: &mut AsyncPgConnection) -> VariantId {
    let variant = active(conn, "partner/foo").await.control.id;
    raw_unguarded(
        conn,
        "UPDATE model_experiment_variant_version SET effective_at = effective_at - interval '1 day',
             created_at = created_at - interval '1 day'",
    )
    .await;
    variant
}

/// The insertion of a version that has been effective for `age`.
fn inserted(variant: VariantId, age: &str) -> String {
    format!(
        "INSERT INTO model_experiment_variant_version
             (variant_id, upstream, encrypted_api_key, effective_at, created_at)
         SELECT '{variant}', '{{}}', '{{}}', instant, instant
         FROM (SELECT clock_timestamp() - interval '{age}') AS aged (instant)"
    )
}

#[tokio::test]
async fn a_version_is_inserted_within_half_a_minute() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let variant = published_a_day_ago(conn).await;
    for age in ["59 seconds", "31 seconds", "1 hour"] {
        let error = Error::from(raw(conn, &inserted(variant, age)).await.unwrap_err());
        assert!(matches!(error, Error::Backdated { .. }), "{age}: {error:?}");
    }
    raw(conn, &inserted(variant, "20 seconds")).await.unwrap();
    // A later version is never inserted below one that is effective.
    let error = Error::from(raw(conn, &inserted(variant, "25 seconds")).await.unwrap_err());
    assert!(matches!(error, Error::Backdated { .. }), "{error:?}");
}

#[tokio::test]
async fn a_version_is_committed_within_half_a_minute() {
    let db = TestDatabase::new().await;
    let (conn, reader) = (&mut db.connect().await, &mut db.connect().await);
    let variant = published_a_day_ago(conn).await;
    let now = Timestamp::now();
    let before = experiments::find_version_at(reader, variant, now).await.unwrap();
    assert!(before.is_some());
    raw(conn, &format!("BEGIN; {}", inserted(variant, "29 seconds"))).await.unwrap();
    // The transaction lasts until half a minute is over.
    let error = Error::from(raw(conn, "SELECT pg_sleep(1.1); COMMIT").await.unwrap_err());
    match error {
        Error::Backdated { variant: of, effective_at, now } => {
            assert_eq!(of, variant);
            assert!(now - effective_at > Duration::seconds(30));
            let settled = experiments::find_version_at(reader, variant, effective_at).await;
            assert_eq!(settled, Ok(before));
        }
        error => panic!("{error:?}"),
    }
}
