//! The answers of a cache.

use crate::routing::cache::{cache, notified, pick};
use crate::support::TestDatabase;
use crate::support::fixtures::{Ready, active, public_model_id, raw, ready, unguard};
use diesel_async::AsyncPgConnection;
use model_experiments::routing::{self, Route, Subject, Unavailable};
use model_experiments::{RoutingCache, experiments};
use std::collections::HashSet;

/// The public model ids of [`outcomes`], and one without an experiment.
const MODELS: [&str; 9] = [
    "partner/draft",
    "partner/served",
    "partner/paused",
    "partner/completed",
    "partner/broken",
    "partner/not yet",
    "partner/far",
    "partner/weightless",
    "partner/none",
];

/// An experiment of each kind; the last four in a state that only another writer can bring about.
async fn outcomes(conn: &mut AsyncPgConnection) {
    ready(conn, "partner/draft").await;
    active(conn, "partner/served").await;
    let paused = active(conn, "partner/paused").await.experiment.id;
    experiments::pause(conn, paused).await.unwrap();
    let completed = active(conn, "partner/completed").await.experiment.id;
    experiments::complete(conn, completed).await.unwrap();

    let broken = active(conn, "partner/broken").await;
    let not_yet = active(conn, "partner/not-yet").await;
    let far = active(conn, "partner/far").await;
    let weightless = active(conn, "partner/weightless").await.control.id;
    unguard(conn).await;
    let of = |ready: &Ready| format!("WHERE variant_id = '{}'", ready.candidate.id);
    let versions = "model_experiment_variant_version";
    let (of_broken, of_not_yet, of_far) = (of(&broken), of(&not_yet), of(&far));
    let sql = format!(
        "UPDATE {versions} SET upstream = '{{}}' {of_broken};
         UPDATE {versions} SET effective_at = now() + interval '1 day' {of_not_yet};
         INSERT INTO {versions} (variant_id, upstream, encrypted_api_key, effective_at)
            SELECT variant_id, upstream, encrypted_api_key, '9999-01-01Z' FROM {versions} {of_far};
         UPDATE model_experiment SET public_model_id = 'partner/not yet'
            WHERE public_model_id = 'partner/not-yet';
         ALTER TABLE model_experiment_variant DROP CONSTRAINT model_experiment_variant_weight_positive;
         UPDATE model_experiment_variant SET weight = 0 WHERE id = '{weightless}'"
    );
    raw(conn, &sql).await.unwrap();
}

fn kind(route: &Route) -> &'static str {
    match route {
        Route::Serve(_) => "served",
        Route::NotExperimented => "not experimented",
        Route::Paused => "paused",
        Route::Unavailable(Unavailable::NoSubject) => "no subject",
        Route::Unavailable(Unavailable::NoCurrentVersion(_)) => "no current version",
        Route::Unavailable(Unavailable::Unreadable { .. }) => "unreadable",
        Route::Unavailable(Unavailable::UnreadableVariant { .. }) => "unreadable variant",
        Route::Unavailable(reason) => panic!("{reason}"),
    }
}

fn kinds(cache: &RoutingCache) -> Vec<&'static str> {
    MODELS.iter().map(|model| kind(&pick(cache, model))).collect()
}

#[tokio::test]
async fn each_kind_of_experiment_has_its_own_outcome() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    outcomes(conn).await;
    let cache = cache(&db, notified()).await;
    let expected = [
        "not experimented",
        "served",
        "paused",
        "not experimented",
        "unreadable",
        // Its public model id breaks the rule of its type, so `routing::load` can't ask for it.
        "no current version",
        "served",
        "unreadable variant",
        "not experimented",
    ];
    assert_eq!(kinds(&cache), expected);
    assert!(cache.len() == 6 && !cache.is_empty());
    for model in ["partner/served", "partner/far"] {
        assert_eq!(kind(&cache.pick(model, Subject::unknown())), "no subject");
    }
    for (model, expected) in [
        ("partner/paused", "paused"),
        ("partner/none", "not experimented"),
        ("", "not experimented"),
    ] {
        assert_eq!(kind(&cache.pick(model, Subject::unknown())), expected);
    }
}

#[tokio::test]
async fn are_those_of_the_database() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    outcomes(conn).await;
    let cache = cache(&db, notified()).await;
    let all = routing::load_all(conn).await.unwrap();
    assert_eq!(all.len(), 6);
    let mut variants = HashSet::new();
    for (model, routed) in &all {
        for number in 0..50 {
            let user = format!("user-{number}");
            let subject = Subject::user(user.as_str());
            let route = cache.pick(model, subject);
            assert_eq!(route, routed.route(subject));
            if let Ok(model) = model.parse() {
                let one = routing::load(conn, &model).await.unwrap().unwrap();
                assert_eq!(route, one.route(subject));
            }
            if let Route::Serve(served) = route {
                variants.insert(served.variant);
            }
        }
    }
    assert_eq!(variants.len(), 4);
    assert!(routing::load(conn, &public_model_id("partner/none")).await.unwrap().is_none());
}
