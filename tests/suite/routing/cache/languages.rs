//! A server whose messages aren't English: nothing is given up early.

use crate::routing::cache::faults::{makes_killed_connections_anew, waits_for_a_locked_table};
use crate::routing::cache::loading::{poison, starts_without_what_can_not_be_loaded};
use crate::routing::cache::{cache, internal_id_of, is_served, notified, pick};
use crate::support::TestDatabase;
use crate::support::fixtures::{active, eventually, number, publish_now, raw};
use tokio::task::yield_now;

#[tokio::test]
async fn a_killed_connection_is_made_anew_and_listens_again() {
    let Some(db) = TestDatabase::german().await else { return };
    makes_killed_connections_anew(&db).await;
}

#[tokio::test]
async fn a_locked_table_is_waited_for() {
    let Some(db) = TestDatabase::german().await else { return };
    waits_for_a_locked_table(&db).await;
}

#[tokio::test]
async fn starts_without_what_the_server_can_not_read() {
    let Some(db) = TestDatabase::german().await else { return };
    starts_without_what_can_not_be_loaded(db, "RAISE 'torn page'", "torn page").await;
}

#[tokio::test]
async fn starts_without_what_is_not_loaded_in_time() {
    let Some(db) = TestDatabase::german().await else { return };
    starts_without_what_can_not_be_loaded(db, "PERFORM pg_sleep(30)", "can't be loaded").await;
}

/// On an English server, the experiment would be unavailable until it is tried again.
#[tokio::test]
async fn what_may_be_trouble_of_the_server_makes_nothing_unavailable() {
    let Some(db) = TestDatabase::german().await else { return };
    let conn = &mut db.connect().await;
    let ready = active(conn, "partner/foo").await;
    raw(conn, "CREATE SCHEMA poisoned; CREATE SEQUENCE poisoned.failures").await.unwrap();
    let trouble = "IF nextval('poisoned.failures') <= 4 THEN
        RAISE 'Verklemmung (Deadlock) entdeckt'; END IF";
    poison(conn, trouble).await;
    let cache = cache(&db, notified()).await;
    for variant in [ready.control.id, ready.candidate.id] {
        publish_now(conn, variant, "poison").await;
    }
    eventually("the cache sees the change", async || {
        yield_now().await;
        let route = pick(&cache, "partner/foo");
        assert!(is_served(&route), "{route:?}");
        internal_id_of(&route) == Some("poison")
    })
    .await;
    let failures = "SELECT last_value AS number FROM poisoned.failures";
    assert!(number(conn, failures).await > 4);
}
