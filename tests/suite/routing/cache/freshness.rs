//! How soon a cache sees a change.

use crate::routing::cache::{
    cache, is_served, notified, notify, pick, polled, served, until, until_served,
};
use crate::support::TestDatabase;
use crate::support::fixtures::{
    self, active, api_key, draft, instant, key, publish_now, raw, ready, unguard, upstream,
};
use chrono::Duration;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use futures_util::StreamExt;
use model_experiments::Error;
use model_experiments::experiments::{self, ExperimentChanges, NewVersion};
use model_experiments::routing::{Route, Subject};
use model_experiments::values::{Timestamp, VariantId};
use std::pin::pin;
use tokio::time::timeout;

/// The instant by which operations decide. A test may skew it.
pub async fn database_time(conn: &mut AsyncPgConnection) -> Timestamp {
    instant(conn, "statement_timestamp()").await
}

/// Publishes a version that becomes effective after `delay`. Returns that instant.
pub async fn publish_in(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    internal_id: &str,
    delay: Duration,
) -> Timestamp {
    let at = database_time(conn).await + delay;
    let upstream = upstream(internal_id);
    let scheduled = NewVersion::keeping_key(&upstream).effective_at(at);
    experiments::publish(conn, variant, scheduled).await.unwrap().effective_at
}

#[tokio::test]
async fn sees_every_operation_that_changes_routing() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let cache = cache(&db, notified()).await;
    let foo = ready(conn, "partner/foo").await;
    let id = foo.experiment.id;
    assert_eq!(pick(&cache, "partner/foo"), Route::NotExperimented);

    experiments::activate(conn, id).await.unwrap();
    until(&cache, "partner/foo", is_served).await;
    let first = served(&cache, "partner/foo");

    let variant = first.variant;
    let swapped = publish_now(conn, variant, "rc2").await;
    assert_eq!(until_served(&cache, "partner/foo", "rc2").await.version, swapped.id);

    let kept = upstream("rc3");
    experiments::publish(conn, variant, NewVersion::keeping_key(&kept)).await.unwrap();
    until_served(&cache, "partner/foo", "rc3").await;

    let rotated = experiments::rotate_key(conn, variant, &key("sk-2")).await.unwrap();
    let is_rotated =
        |route: &Route| matches!(route, Route::Serve(served) if served.version == rotated.id);
    until(&cache, "partner/foo", is_rotated).await;

    experiments::pause(conn, id).await.unwrap();
    until(&cache, "partner/foo", |route| *route == Route::Paused).await;
    // A version that is published during a pause serves after it.
    publish_now(conn, variant, "rc4").await;
    experiments::activate(conn, id).await.unwrap();
    until_served(&cache, "partner/foo", "rc4").await;

    experiments::complete(conn, id).await.unwrap();
    until(&cache, "partner/foo", |route| *route == Route::NotExperimented).await;
    assert!(cache.is_empty());

    // Another experiment behind the same public model id.
    let other = active(conn, "partner/foo").await;
    let route = until(&cache, "partner/foo", is_served).await;
    assert!(matches!(route, Route::Serve(served) if served.experiment == other.experiment.id));
}

#[tokio::test]
async fn operations_notify_of_changes_of_routing_when_they_commit_and_of_nothing_else() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    // Connections of this crate drop notifications.
    let listener = &mut AsyncPgConnection::establish(&db.url()).await.unwrap();
    raw(listener, "LISTEN model_experiment_routing").await.unwrap();
    let mut notifications = pin!(listener.notifications_stream());

    // No change of a draft notifies.
    let foo = ready(conn, "partner/foo").await;
    let id = foo.experiment.id;
    experiments::set_weight(conn, foo.control.id, fixtures::weight(9)).await.unwrap();
    let renamed = ExperimentChanges::default().name("Bar");
    experiments::update(conn, id, &renamed).await.unwrap();
    experiments::rotate_key(conn, foo.control.id, &key("sk-2")).await.unwrap();
    let doomed = draft(conn, "partner/doomed").await.id;
    experiments::delete(conn, doomed).await.unwrap();

    experiments::activate(conn, id).await.unwrap();
    experiments::activate(conn, id).await.unwrap();
    let label = fixtures::label("other");
    experiments::set_label(conn, foo.control.id, &label).await.unwrap();
    experiments::update(conn, id, &renamed).await.unwrap();
    notify(conn, "1").await;

    publish_now(conn, foo.control.id, "rc2").await;
    publish_in(conn, foo.control.id, "rc3", Duration::days(1)).await;
    experiments::rotate_key(conn, foo.control.id, &key("sk-3")).await.unwrap();
    notify(conn, "2").await;

    experiments::pause(conn, id).await.unwrap();
    experiments::archive(conn, id).await.unwrap();
    experiments::unarchive(conn, id).await.unwrap();
    experiments::complete(conn, id).await.unwrap();
    assert!(experiments::rotate_key(conn, foo.control.id, &key("sk-4")).await.is_err());
    notify(conn, "3").await;

    let other = ready(conn, "partner/other").await.experiment.id;
    let undone: Result<(), Error> = conn
        .transaction(async |conn| {
            experiments::activate(conn, other).await?;
            Err(Error::ExperimentNotFound(other))
        })
        .await;
    assert!(undone.is_err());
    notify(conn, "end").await;

    let mut received = Vec::new();
    while received.last().is_none_or(|last| last != "end") {
        let next = timeout(std::time::Duration::from_secs(60), notifications.next());
        received.push(next.await.unwrap().unwrap().unwrap().payload);
    }
    let foo = "partner/foo";
    assert_eq!(received, [foo, "1", foo, foo, foo, "2", foo, foo, "3", "end"]);
}

#[tokio::test]
async fn sees_everything_that_one_transaction_changes() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let mut ids = Vec::new();
    for at in 0..20 {
        ids.push(active(conn, &format!("partner/{at}")).await.experiment.id);
    }
    let cache = cache(&db, notified()).await;
    let paused: Result<(), Error> = conn
        .transaction(async |conn| {
            for id in ids {
                experiments::pause(conn, id).await?;
            }
            Ok(())
        })
        .await;
    assert_eq!(paused, Ok(()));
    for at in 0..20 {
        until(&cache, &format!("partner/{at}"), |route| *route == Route::Paused).await;
    }
}

#[tokio::test]
async fn polls_find_what_nobody_notified() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    let cache = cache(&db, polled()).await;
    let first = served(&cache, "partner/foo");

    // No trigger notifies.
    let versions = "model_experiment_variant_version";
    let swap = format!(
        "INSERT INTO {versions} (variant_id, upstream, encrypted_api_key)
         SELECT variant_id, jsonb_set(upstream, '{{internal_id}}', '\"raw\"'), encrypted_api_key
         FROM {versions} WHERE id = '{}'",
        first.version
    );
    raw(conn, &swap).await.unwrap();
    until_served(&cache, "partner/foo", "raw").await;

    for (status, expected) in [("paused", Route::Paused), ("completed", Route::NotExperimented)] {
        let set = format!(
            "UPDATE model_experiment SET status = '{status}',
             ended_at = CASE '{status}' WHEN 'completed' THEN statement_timestamp() END"
        );
        raw(conn, &set).await.unwrap();
        until(&cache, "partner/foo", |route| *route == expected).await;
    }

    unguard(conn).await;
    raw(conn, "UPDATE model_experiment SET status = 'active', ended_at = NULL").await.unwrap();
    until_served(&cache, "partner/foo", "raw").await;
    raw(conn, "UPDATE model_experiment_variant SET weight = 1000").await.unwrap();
    // Equal weights move users.
    let share = async || {
        let is_control = |number: &u32| {
            let user = format!("user-{number}");
            let route = cache.pick("partner/foo", Subject::user(user.as_str()));
            matches!(route, Route::Serve(served) if served.variant == foo.control.id)
        };
        tokio::task::yield_now().await;
        (0..400).filter(is_control).count() > 150
    };
    fixtures::eventually("the weights are equal", share).await;

    // A key may be encrypted again in place.
    let rotated = key("sk-2").to_json();
    let set = format!("UPDATE {versions} SET encrypted_api_key = '{rotated}'");
    raw(conn, &set).await.unwrap();
    let is_rotated =
        |route: &Route| matches!(route, Route::Serve(served) if api_key(served) == "sk-2");
    until(&cache, "partner/foo", is_rotated).await;
}

#[tokio::test]
async fn wakes_when_a_scheduled_version_takes_over() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    let soon = Duration::seconds(1);
    let at = publish_in(conn, foo.control.id, "scheduled before the start", soon).await;
    publish_in(conn, foo.candidate.id, "scheduled before the start", soon).await;
    let cache = cache(&db, notified()).await;
    let served = until_served(&cache, "partner/foo", "scheduled before the start").await;
    assert!(database_time(conn).await >= at);

    for internal_id in ["scheduled", "scheduled next"] {
        let at = publish_in(conn, served.variant, internal_id, soon).await;
        until_served(&cache, "partner/foo", internal_id).await;
        assert!(database_time(conn).await >= at);
    }

    // A version that another writer schedules, and notifies of.
    let versions = "model_experiment_variant_version";
    let raw_swap = format!(
        "INSERT INTO {versions} (variant_id, upstream, encrypted_api_key, effective_at)
         SELECT variant_id, jsonb_set(upstream, '{{internal_id}}', '\"raw\"'), encrypted_api_key,
            now() + interval '400 ms' FROM {versions} WHERE id = '{}'",
        served.version
    );
    raw(conn, &raw_swap).await.unwrap();
    notify(conn, "partner/foo").await;
    until_served(&cache, "partner/foo", "raw").await;
}

/// Shifts the clock of statements in this database.
async fn skew(conn: &mut AsyncPgConnection, by: &str) {
    let sql = format!(
        "CREATE SCHEMA IF NOT EXISTS skewed;
         CREATE OR REPLACE FUNCTION skewed.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
            AS $$ SELECT pg_catalog.statement_timestamp() + interval '{by}' $$;
         DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = skewed, pg_catalog, public',
            current_database()); END $$"
    );
    raw(conn, &sql).await.unwrap();
}

#[tokio::test]
async fn schedules_by_the_databases_clock_however_far_it_is_from_ours() {
    for by in ["2 hours", "-2 hours"] {
        let db = TestDatabase::new().await;
        skew(&mut db.connect().await, by).await;
        let conn = &mut db.connect().await;
        let skewed = (database_time(conn).await - Timestamp::now()).num_minutes().abs();
        assert!(skewed > 100, "{skewed}");
        unguard(conn).await;
        let foo = active(conn, "partner/foo").await;
        let cache = cache(&db, notified()).await;
        let first = served(&cache, "partner/foo");
        let at = publish_in(conn, first.variant, "scheduled", Duration::seconds(1)).await;
        publish_in(conn, first.variant, "later", Duration::hours(1)).await;
        let served = until_served(&cache, "partner/foo", "scheduled").await;
        assert!(database_time(conn).await >= at);
        assert_eq!(served.experiment, foo.experiment.id);
    }
}

#[tokio::test]
async fn a_version_that_served_stays_when_the_databases_clock_is_set_back() {
    let db = TestDatabase::new().await;
    skew(&mut db.connect().await, "1 hour").await;
    let conn = &mut db.connect().await;
    unguard(conn).await;
    active(conn, "partner/foo").await;
    let cache = cache(&db, notified()).await;
    let first = served(&cache, "partner/foo");
    publish_now(conn, first.variant, "ahead").await;
    let ahead = until_served(&cache, "partner/foo", "ahead").await;

    // For the next hour, the database finds no current version.
    skew(conn, "0").await;
    let marker = active(conn, "partner/marker").await.experiment.id;
    until(&cache, "partner/marker", is_served).await;
    notify(conn, "partner/foo").await;
    experiments::complete(conn, marker).await.unwrap();
    until(&cache, "partner/marker", |route| *route == Route::NotExperimented).await;
    let served = served(&cache, "partner/foo");
    assert_eq!(served.version, ahead.version);
    let now = database_time(conn).await;
    assert_eq!(experiments::find_version_at(conn, first.variant, now).await.unwrap(), None);
}
