//! Notifications by whoever can connect.

use crate::routing::cache::{cache, notified, notify, pick, polled, until, until_loaded};
use crate::support::TestDatabase;
use crate::support::fixtures::{active, raw};
use crate::support::metrics::values;
use metrics_util::debugging::DebuggingRecorder;
use model_experiments::experiments;
use model_experiments::routing::Route;

/// Sends a notification for each number up to `count`, in one transaction.
fn notifications(payload: &str, count: u32) -> String {
    format!(
        "SELECT pg_notify('model_experiment_routing', {payload}) FROM generate_series(1, {count}) n"
    )
}

#[tokio::test]
async fn a_payload_that_is_no_public_model_id_loads_nothing() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let cache = cache(&db, notified()).await;
    for junk in ["", "a b", "a\tb"] {
        notify(conn, junk).await;
    }
    raw(conn, &notifications("rpad(n::text, 7999, 'x')", 2_000)).await.unwrap();
    until_loaded(&cache, conn).await;
    let counted = values(&snapshotter, "model_experiments_routing_");
    // The marker's beginning and end.
    assert_eq!((counted["reloads_total"], counted["polls_total"]), (2.0, 1.0));
}

#[tokio::test]
async fn too_many_public_model_ids_end_in_a_poll() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    active(conn, "partner/foo").await;
    let cache = cache(&db, notified()).await;
    // Nobody notifies of it.
    raw(conn, "UPDATE model_experiment SET status = 'paused'").await.unwrap();
    until_loaded(&cache, conn).await;
    assert_ne!(pick(&cache, "partner/foo"), Route::Paused);
    raw(conn, &notifications("'flood/' || n", 20_000)).await.unwrap();
    until(&cache, "partner/foo", |route| *route == Route::Paused).await;
}

#[tokio::test]
async fn a_flood_delays_no_change() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await.experiment.id;
    for options in [notified(), polled()] {
        let cache = cache(&db, options).await;
        for payload in ["rpad(n::text, 7999, 'x')", "'flood/' || n", "'partner/foo'"] {
            let flooder = &mut db.connect().await;
            let flood = async {
                for _ in 0..10 {
                    raw(flooder, &notifications(payload, 2_000)).await.unwrap();
                }
            };
            let changes = async {
                for _ in 0..5 {
                    experiments::pause(conn, foo).await.unwrap();
                    until(&cache, "partner/foo", |route| *route == Route::Paused).await;
                    experiments::activate(conn, foo).await.unwrap();
                    until(&cache, "partner/foo", |route| *route != Route::Paused).await;
                }
            };
            tokio::join!(flood, changes);
        }
    }
}
