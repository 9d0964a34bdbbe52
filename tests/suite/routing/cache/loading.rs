//! Experiments that can't be loaded.

use crate::routing::cache::{
    cache, is_served, notified, notify, pick, polled, served, until, until_served,
};
use crate::support::TestDatabase;
use crate::support::fixtures::{active, publish_now, raw, unguard};
use crate::support::log::Log;
use diesel_async::AsyncPgConnection;
use model_experiments::routing::{Route, Unavailable};
use std::time::Duration;

/// Lets the tables hold what no rule allows.
async fn unchecked(conn: &mut AsyncPgConnection) {
    unguard(conn).await;
    let drop = "DO $$ DECLARE rule text; BEGIN
        FOR rule IN SELECT conname FROM pg_constraint WHERE contype = 'c'
            AND conrelid = 'model_experiment_variant_version'::regclass
        LOOP EXECUTE format('ALTER TABLE model_experiment_variant_version DROP CONSTRAINT %I', rule);
        END LOOP; END $$";
    raw(conn, drop).await.unwrap();
}

#[tokio::test]
async fn a_value_that_is_too_long_makes_its_experiment_unavailable_by_itself() {
    let (log, _guard) = Log::of_thread();
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    unchecked(conn).await;
    let upstream = "upstream must be at most 1 MiB long";
    let key = "encrypted_api_key must be at most 64 KiB long";
    let long = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 300000) n)";
    let cases = [
        ("partner/long", "upstream", long, upstream),
        // Stored in a hundredth of its length.
        ("partner/compressed", "upstream", "repeat('x', 20000000)", upstream),
        ("partner/long-key", "encrypted_api_key", long, key),
        ("partner/compressed-key", "encrypted_api_key", "repeat('x', 200000)", key),
    ];
    for (model, column, value, _) in cases {
        let version = active(conn, model).await.candidate_version.id;
        let set = format!(
            "UPDATE model_experiment_variant_version
             SET {column} = jsonb_set({column}, '{{data}}', to_jsonb({value})) WHERE id = '{version}'"
        );
        raw(conn, &set).await.unwrap();
    }
    active(conn, "partner/whole").await;

    let cache = cache(&db, notified()).await;
    assert!(is_served(&pick(&cache, "partner/whole")));
    for (model, _, _, expected) in cases {
        match pick(&cache, model) {
            Route::Unavailable(Unavailable::Unreadable { reason, .. }) => {
                assert_eq!(reason.to_string(), expected);
            }
            route => panic!("{model}: {route:?}"),
        }
        let errors = log.errors();
        let line = errors.iter().filter(|line| line.contains(&format!("\"{model}\"")));
        assert_eq!(line.filter(|line| line.contains(expected)).count(), 1, "{errors:#?}");
    }
}

/// Makes the server fail by `action` when it loads an upstream in which `poison` stands.
pub async fn poison(conn: &mut AsyncPgConnection, action: &str) {
    let sql = format!(
        "CREATE SCHEMA IF NOT EXISTS poisoned;
         CREATE OR REPLACE FUNCTION poisoned.pg_column_size(jsonb) RETURNS integer LANGUAGE plpgsql AS $$
            BEGIN IF $1::text LIKE '%poison%' THEN {action}; END IF;
            RETURN pg_catalog.pg_column_size($1); END $$;
         DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = poisoned, pg_catalog, public',
            current_database()); END $$"
    );
    raw(conn, &sql).await.unwrap();
}

fn is_not_loaded(route: &Route) -> bool {
    matches!(route, Route::Unavailable(Unavailable::NotLoaded { .. }))
}

pub async fn starts_without_what_can_not_be_loaded(db: TestDatabase, action: &str, expected: &str) {
    let (log, _guard) = Log::of_thread();
    let conn = &mut db.connect().await;
    for model in 0..10 {
        active(conn, &format!("partner/{model}")).await;
    }
    let control = active(conn, "partner/foo").await.control.id;
    publish_now(conn, control, "poison").await;
    poison(conn, action).await;

    let cache = cache(&db, notified().load_timeout(Duration::from_secs(2))).await;
    assert!(is_not_loaded(&pick(&cache, "partner/foo")));
    for model in 0..10 {
        assert!(is_served(&pick(&cache, &format!("partner/{model}"))));
    }
    let errors = log.errors();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("partner/foo") && errors[0].contains(expected), "{errors:#?}");

    // It doesn't keep others from being loaded.
    let other = served(&cache, "partner/7").variant;
    publish_now(conn, other, "rc2").await;
    until_served(&cache, "partner/7", "rc2").await;
    publish_now(conn, control, "mended").await;
    until(&cache, "partner/foo", is_served).await;
    // A running cache is no worse off.
    publish_now(conn, control, "poison again").await;
    until(&cache, "partner/foo", is_not_loaded).await;
    assert!(is_served(&pick(&cache, "partner/7")));
    poison(conn, "NULL").await;
    notify(conn, "partner/foo").await;
    until(&cache, "partner/foo", is_served).await;
}

#[tokio::test]
async fn starts_without_what_the_server_can_not_read() {
    let db = TestDatabase::new().await;
    starts_without_what_can_not_be_loaded(db, "RAISE 'torn page'", "torn page").await;
}

#[tokio::test]
async fn starts_without_what_is_not_loaded_in_time() {
    let db = TestDatabase::new().await;
    starts_without_what_can_not_be_loaded(db, "PERFORM pg_sleep(30)", "took too long").await;
}

#[tokio::test]
async fn what_could_not_be_loaded_is_tried_again() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let control = active(conn, "partner/foo").await.control.id;
    publish_now(conn, control, "poison").await;
    poison(conn, "RAISE 'torn page'").await;
    let cache = cache(&db, polled()).await;
    assert!(is_not_loaded(&pick(&cache, "partner/foo")));
    poison(conn, "NULL").await;
    until(&cache, "partner/foo", is_served).await;
}
