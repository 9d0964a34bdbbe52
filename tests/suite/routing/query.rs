//! Routing by a query: which version serves a user, and every reason why none does.

use crate::support::TestDatabase;
use crate::support::fixtures::{
    API_KEY, active, api_key, draft, key, label, picked, public_model_id, publish_now, raw, ready,
    unguard, upstream, weight,
};
use chrono::Duration;
use diesel_async::AsyncPgConnection;
use model_experiments::experiments::{self, NewVersion};
use model_experiments::routing::{self, Route, Subject, Unavailable};
use model_experiments::values::{AllocationSubject, Timestamp, VariantId};
use std::collections::HashSet;

async fn is_routed(conn: &mut AsyncPgConnection, model: &str) -> bool {
    routing::load(conn, &public_model_id(model)).await.unwrap().is_some()
}

#[tokio::test]
async fn a_user_is_served_by_the_variant_that_bucketing_picks() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let active = active(conn, "partner/foo").await;
    let id = active.experiment.id;
    let variants = experiments::list_variants(conn, id).await.unwrap();
    let routed = routing::load(conn, &active.experiment.public_model_id).await.unwrap().unwrap();
    assert_eq!(routed.id(), id);

    let mut seen = HashSet::new();
    for at in 0..200 {
        let user = format!("user-{at}");
        let subject = Subject::user(user.as_str());
        let Route::Serve(served) = routed.route(subject) else { panic!("{routed:?}") };
        let picked = picked(id, &variants, subject);
        assert_eq!((served.experiment, served.variant), (id, picked.id));
        assert_eq!(served.subject, AllocationSubject::User);
        let version = if picked.id == active.control.id {
            &active.control_version
        } else {
            &active.candidate_version
        };
        assert_eq!((served.version, served.upstream()), (version.id, version.upstream().unwrap()));
        assert_eq!(api_key(&served), API_KEY);
        seen.insert(picked.id);
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn only_active_and_paused_experiments_are_routed() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    assert!(!is_routed(conn, "partner/foo").await);
    let id = ready(conn, "partner/foo").await.experiment.id;
    assert!(!is_routed(conn, "partner/foo").await);
    experiments::activate(conn, id).await.unwrap();
    assert!(is_routed(conn, "partner/foo").await);
    assert!(!is_routed(conn, "partner/fo").await);

    experiments::pause(conn, id).await.unwrap();
    let model = public_model_id("partner/foo");
    let routed = routing::load(conn, &model).await.unwrap().unwrap();
    assert_eq!(routed.route(Subject::user("u")), Route::Paused);
    assert_eq!(routed.route(Subject::unknown()), Route::Paused);

    // Archiving never changes routing: the public model id must not fall through.
    experiments::archive(conn, id).await.unwrap();
    let routed = routing::load(conn, &model).await.unwrap().unwrap();
    assert_eq!(routed.route(Subject::user("u")), Route::Paused);

    experiments::complete(conn, id).await.unwrap();
    assert!(!is_routed(conn, "partner/foo").await);
}

#[tokio::test]
async fn a_transaction_routes_by_what_it_published() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    raw(conn, "BEGIN; SELECT 1").await.unwrap();
    active(conn, "partner/foo").await;
    let routed = routing::load(conn, &public_model_id("partner/foo")).await.unwrap().unwrap();
    assert!(matches!(routed.route(Subject::user("u")), Route::Serve(_)), "{routed:?}");
}

#[tokio::test]
async fn without_a_subject_no_version_serves() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    active(conn, "partner/foo").await;
    let routed = routing::load(conn, &public_model_id("partner/foo")).await.unwrap().unwrap();
    assert_eq!(routed.route(Subject::unknown()), Route::Unavailable(Unavailable::NoSubject));
}

#[tokio::test]
async fn a_hot_swap_and_a_rotated_key_are_served_at_once_and_no_user_moves() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let active = active(conn, "partner/foo").await;
    let model = &active.experiment.public_model_id;
    let users: Vec<_> = (0..50).map(|at| format!("user-{at}")).collect();
    let variant_of = |route: Route| match route {
        Route::Serve(served) => served.variant,
        route => panic!("{route:?}"),
    };
    let routed = routing::load(conn, model).await.unwrap().unwrap();
    let route = |user: &String| routed.route(Subject::user(user.as_str()));
    let before: Vec<_> = users.iter().map(|user| variant_of(route(user))).collect();

    let swapped = publish_now(conn, active.candidate.id, "rc2").await;
    experiments::rotate_key(conn, active.control.id, &key("sk-2")).await.unwrap();
    // A scheduled version doesn't serve yet.
    let tomorrow = Timestamp::now() + Duration::days(1);
    let later = upstream("later");
    let scheduled = NewVersion::keeping_key(&later).effective_at(tomorrow);
    experiments::publish(conn, active.control.id, scheduled).await.unwrap();

    let routed = routing::load(conn, model).await.unwrap().unwrap();
    for (user, before) in users.iter().zip(before) {
        let subject = Subject::user(user.as_str());
        let Route::Serve(served) = routed.route(subject) else { panic!("{routed:?}") };
        assert_eq!(served.variant, before);
        if before == active.candidate.id {
            assert_eq!((served.version, served.upstream().internal_id()), (swapped.id, "rc2"));
        } else {
            assert_eq!(api_key(&served), "sk-2");
            assert_eq!(served.upstream(), active.control_version.upstream().unwrap());
        }
    }
}

/// An active experiment with one variant, in a state that a guard would have refused.
async fn broken(conn: &mut AsyncPgConnection, model: &str, sql: &str) -> (VariantId, Unavailable) {
    let id = draft(conn, model).await.id;
    let only = experiments::add_variant(conn, id, &label("only"), weight(1)).await.unwrap();
    publish_now(conn, only.id, "rc1").await;
    experiments::activate(conn, id).await.unwrap();
    unguard(conn).await;
    raw(conn, sql).await.unwrap();
    let routed = routing::load(conn, &public_model_id(model)).await.unwrap().unwrap();
    match routed.route(Subject::user("u")) {
        Route::Unavailable(reason) => (only.id, reason),
        route => panic!("{route:?}"),
    }
}

#[tokio::test]
async fn an_experiment_that_can_not_be_served_is_unavailable_with_its_reason() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let (_, reason) = broken(conn, "partner/a", "DELETE FROM model_experiment_variant").await;
    assert_eq!(reason, Unavailable::NoVariant);

    let late =
        "UPDATE model_experiment_variant_version SET effective_at = now() + interval '1 day'";
    let (variant, reason) = broken(conn, "partner/b", late).await;
    assert_eq!(reason, Unavailable::NoCurrentVersion(variant));

    for (model, column, json, expected) in [
        ("partner/c", "upstream", r#"{"internal_id": "a"}"#, "upstream.base_url is missing"),
        ("partner/e", "upstream", r#"{"extra_body": {"a": 1e400}}"#, "a number too large"),
        (
            "partner/d",
            "encrypted_api_key",
            r#"{"iv": ""}"#,
            "must be an object of exactly iv, data",
        ),
    ] {
        let sql = format!("UPDATE model_experiment_variant_version SET {column} = '{json}'");
        let (_, reason) = broken(conn, model, &sql).await;
        assert!(matches!(reason, Unavailable::Unreadable { .. }), "{reason:?}");
        assert!(reason.to_string().contains(expected), "{reason}");
    }
}

#[tokio::test]
async fn a_version_that_can_not_be_read_makes_its_experiment_unavailable_and_no_other() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let (broken, whole) = (active(conn, "partner/foo").await, active(conn, "partner/bar").await);
    unguard(conn).await;
    let sql = format!(
        "UPDATE model_experiment_variant_version SET upstream = '[]' WHERE id = '{}'",
        broken.control_version.id
    );
    raw(conn, &sql).await.unwrap();
    let all = routing::load_all(conn).await.unwrap();
    assert_eq!(all.len(), 2);
    for at in 0..20 {
        let user = format!("user-{at}");
        let subject = Subject::user(user.as_str());
        match all["partner/foo"].route(subject) {
            Route::Unavailable(Unavailable::Unreadable { version, reason }) => {
                assert_eq!(version, broken.control_version.id);
                assert_eq!(reason.to_string(), "upstream must be an object");
            }
            route => panic!("{route:?}"),
        }
        let Route::Serve(served) = all["partner/bar"].route(subject) else { panic!() };
        assert_eq!(served.experiment, whole.experiment.id);
    }
}
