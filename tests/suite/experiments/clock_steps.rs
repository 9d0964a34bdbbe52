//! The database's clock is set back, as by a failover: what is published takes effect all the same,
//! and the past stays.

use crate::support::TestDatabase;
use crate::support::fixtures::{active, key, publish_now, raw, raw_unguarded, ready, upstream};
use chrono::Duration;
use diesel_async::AsyncPgConnection;
use model_experiments::error::Constraint;
use model_experiments::experiments::{self, NewVersion, Version};
use model_experiments::reports::overview;
use model_experiments::routing::{self, Route, Subject};
use model_experiments::values::{Status, Timestamp, VariantId, VersionId};
use model_experiments::{Error, Page, RoutingCache, RoutingOptions};
use std::collections::HashSet;

/// Sets the clock of the database back by an hour: what was written so far is an hour ahead.
async fn set_back(conn: &mut AsyncPgConnection) {
    raw_unguarded(
        conn,
        "UPDATE model_experiment SET created_at = created_at + interval '1 hour',
             updated_at = updated_at + interval '1 hour', started_at = started_at + interval '1 hour';
         UPDATE model_experiment_variant_version SET created_at = created_at + interval '1 hour',
             effective_at = effective_at + interval '1 hour'",
    )
    .await;
}

/// The versions that serve 100 users of `model`.
async fn served(conn: &mut AsyncPgConnection, model: &str) -> HashSet<VersionId> {
    let routed = routing::load(conn, &model.parse().unwrap()).await.unwrap().unwrap();
    let versions = (0..100).map(|number| {
        let user = format!("user-{number}");
        match routed.route(Subject::user(user.as_str())) {
            Route::Serve(served) => served.version,
            route => panic!("{route:?}"),
        }
    });
    versions.collect()
}

/// Requires that `version` is the current one of `variant` for every reader.
async fn assert_current(conn: &mut AsyncPgConnection, version: &Version) {
    let variant = version.variant_id;
    let found = experiments::find_current_version(conn, variant).await.unwrap();
    assert_eq!(found.as_ref(), Some(version));
    let experiment = experiments::find_variant(conn, variant).await.unwrap().unwrap().experiment_id;
    let listed = experiments::list_current_versions(conn, experiment).await.unwrap();
    assert!(listed.iter().any(|(_, current)| current.as_ref() == Some(version)));
    let overview = overview::of_experiment(conn, experiment).await.unwrap();
    assert!(overview.variants.iter().any(|of| of.current.as_ref() == Some(version)));
    let effective_at = version.effective_at;
    let at = experiments::find_version_at(conn, variant, effective_at).await.unwrap();
    assert_eq!(at.as_ref(), Some(version));
    let model = overview.experiment.public_model_id.as_str();
    assert!(served(conn, model).await.contains(&version.id));
}

async fn newest(conn: &mut AsyncPgConnection, variant: VariantId) -> Version {
    experiments::list_versions(conn, variant, Page::first(1)).await.unwrap().remove(0)
}

#[tokio::test]
async fn what_is_published_now_is_current_at_once_for_every_reader() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    set_back(conn).await;
    let variant = foo.control.id;
    let before = newest(conn, variant).await;
    assert!(before.effective_at > Timestamp::now() + Duration::minutes(50));
    assert_current(conn, &before).await;

    let swapped = publish_now(conn, variant, "rc2").await;
    assert_eq!(swapped.effective_at, before.effective_at + Duration::microseconds(1));
    assert_eq!(swapped.created_at, swapped.effective_at);
    assert_current(conn, &swapped).await;
    let rotated = experiments::rotate_key(conn, variant, &key("sk-2")).await.unwrap();
    assert_eq!(rotated.effective_at, swapped.effective_at + Duration::microseconds(1));
    assert_current(conn, &rotated).await;
    // What was current before stays so.
    let at = experiments::find_version_at(conn, variant, before.effective_at).await.unwrap();
    assert_eq!(at, Some(before));
}

#[tokio::test]
async fn a_cache_serves_what_is_published_after_the_step() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    set_back(conn).await;
    let [control, candidate] = [foo.control.id, foo.candidate.id];
    let expected = [
        publish_now(conn, control, "rc2").await.id,
        experiments::rotate_key(conn, candidate, &key("sk-2")).await.unwrap().id,
    ];
    let cache = RoutingCache::start(&db.options(), RoutingOptions::default()).await.unwrap();
    let picked = (0..100).map(|number| {
        let user = format!("user-{number}");
        match cache.pick("partner/foo", Subject::user(user.as_str())) {
            Route::Serve(served) => served.version,
            route => panic!("{route:?}"),
        }
    });
    assert_eq!(picked.collect::<HashSet<_>>(), expected.into());
}

#[tokio::test]
async fn a_schedule_that_could_never_take_effect_is_refused() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let variant = active(conn, "partner/foo").await.control.id;
    set_back(conn).await;
    let current = newest(conn, variant).await;
    let upstream = upstream("rc2");
    let at = |instant| NewVersion::keeping_key(&upstream).effective_at(instant);
    let below = Timestamp::now() + Duration::minutes(30);
    for instant in [below, current.effective_at] {
        match experiments::publish(conn, variant, at(instant)).await {
            Err(Error::Backdated { now, .. }) => {
                assert_eq!(now, current.effective_at + Duration::microseconds(1));
            }
            outcome => panic!("{outcome:?}"),
        }
    }
    let sql = format!(
        "INSERT INTO model_experiment_variant_version (variant_id, upstream, encrypted_api_key, effective_at)
         VALUES ('{variant}', '{{}}', '{{}}', '{below}')"
    );
    let error = Error::from(raw(conn, &sql).await.unwrap_err());
    assert!(matches!(error, Error::Backdated { .. }), "{error:?}");
    // A default of raw SQL is the clock, which lies below.
    let sql = sql.replace(", effective_at", "").replace(&format!(", '{below}'"), "");
    let error = Error::from(raw(conn, &sql).await.unwrap_err());
    assert!(matches!(error, Error::Backdated { .. }), "{error:?}");

    let later = current.effective_at + Duration::hours(1);
    let scheduled = experiments::publish(conn, variant, at(later)).await.unwrap();
    assert!(scheduled.created_at < scheduled.effective_at);
    assert_current(conn, &current).await;
}

#[tokio::test]
async fn an_instant_that_is_scheduled_is_left_to_its_version() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let variant = active(conn, "partner/foo").await.control.id;
    set_back(conn).await;
    let current = newest(conn, variant).await.effective_at;
    let upstream = upstream("rc2");
    let next = current + Duration::microseconds(1);
    let scheduled = NewVersion::keeping_key(&upstream).effective_at(next);
    experiments::publish(conn, variant, scheduled).await.unwrap();
    let published = publish_now(conn, variant, "rc3").await;
    assert_eq!(published.effective_at, next + Duration::microseconds(1));
    assert_current(conn, &published).await;
}

#[tokio::test]
async fn the_lifecycle_goes_on() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = active(conn, "partner/foo").await.experiment.id;
    let draft = ready(conn, "partner/bar").await.experiment.id;
    set_back(conn).await;
    assert_eq!(experiments::pause(conn, id).await.unwrap().status, Status::Paused);
    assert_eq!(experiments::activate(conn, id).await.unwrap().status, Status::Active);
    let completed = experiments::complete(conn, id).await.unwrap();
    assert_eq!((completed.status, completed.ended_at), (Status::Completed, completed.started_at));
    // A draft whose versions were effective when they were made is ready.
    assert_eq!(experiments::activate(conn, draft).await.unwrap().status, Status::Active);
}

#[tokio::test]
async fn a_version_is_not_made_in_the_future() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let variant = active(conn, "partner/foo").await.control.id;
    let insert = |instant: &str| {
        format!(
            "INSERT INTO model_experiment_variant_version
                 (variant_id, upstream, encrypted_api_key, effective_at, created_at)
             VALUES ('{variant}', '{{}}', '{{}}', {instant}, {instant})"
        )
    };
    let error = Error::from(raw(conn, &insert("now() + interval '2 minutes'")).await.unwrap_err());
    assert_eq!(error, Error::Violated { constraint: Constraint::VersionNotPostdated });
    // The clocks of several nodes differ by a little.
    raw(conn, &insert("now() + interval '30 seconds'")).await.unwrap();
}
