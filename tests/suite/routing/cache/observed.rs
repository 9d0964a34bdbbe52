//! Logs and metrics of a cache, and what `Debug` shows.

use crate::routing::cache::{cache, is_served, notified, notify, pick, polled, until};
use crate::support::fixtures::{API_KEY, active, eventually, publish_now, raw, text, unguard};
use crate::support::log::Log;
use crate::support::metrics::values;
use crate::support::network::Network;
use crate::support::{TestDatabase, options};
use metrics_util::debugging::DebuggingRecorder;
use model_experiments::routing::{Route, Subject, Unavailable};
use model_experiments::values::Timestamp;
use model_experiments::{RoutingCache, experiments};
use std::time::Duration;
use tokio::task::yield_now;

/// The prefix of the cache's metrics.
const METRICS: &str = "model_experiments_routing_";

#[tokio::test]
async fn an_experiment_that_can_not_be_served_is_reported_once() {
    let (log, _guard) = Log::of_thread();
    let errors = || log.errors().len();

    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    active(conn, "partner/whole").await;
    unguard(conn).await;
    let set = |json: &str| {
        format!(
            "UPDATE model_experiment_variant_version SET upstream = '{json}' WHERE id = '{}'",
            foo.control_version.id
        )
    };
    raw(conn, &set(r#"{"internal_id": "sk-secret"}"#)).await.unwrap();
    let cache = cache(&db, polled()).await;
    assert_eq!(errors(), 1);
    let is_unreadable =
        |route: &Route| matches!(route, Route::Unavailable(Unavailable::Unreadable { .. }));
    assert!(is_unreadable(&pick(&cache, "partner/foo")));
    for _ in 0..3 {
        // It is loaded again, and is no better.
        notify(conn, "partner/foo").await;
        publish_now(conn, foo.candidate.id, "rc2").await;
        let marker = active(conn, "partner/marker").await.experiment.id;
        until(&cache, "partner/marker", is_served).await;
        experiments::complete(conn, marker).await.unwrap();
        until(&cache, "partner/marker", |route| *route == Route::NotExperimented).await;
    }
    assert_eq!(errors(), 1);

    // Broken in another way, it is reported again.
    raw(conn, &set("[]")).await.unwrap();
    notify(conn, "partner/foo").await;
    eventually("it is reported again", async || {
        yield_now().await;
        errors() == 2
    })
    .await;
    publish_now(conn, foo.control.id, "mended").await;
    until(&cache, "partner/foo", is_served).await;
    let lines = log.lines().join("\n");
    let expected = ["partner/foo", "can't be served", "upstream.base_url is missing"];
    assert!(expected.iter().all(|text| lines.contains(text)), "{lines}");
    assert!(!lines.contains("sk-secret") && !lines.contains("partner/whole"), "{lines}");
    assert_eq!(errors(), 2);
}

#[tokio::test]
async fn counts_what_it_does() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    active(conn, "partner/foo").await;
    let paused = active(conn, "partner/paused").await.experiment.id;
    experiments::pause(conn, paused).await.unwrap();
    let cache = cache(&db, notified()).await;
    for (model, times) in [("partner/foo", 3), ("partner/paused", 2), ("partner/none", 1)] {
        for _ in 0..times {
            pick(&cache, model);
        }
    }
    for _ in 0..4 {
        cache.pick("partner/foo", Subject::unknown());
    }
    let third = active(conn, "partner/third").await.experiment.id;
    until_len(&cache, 3).await;
    experiments::complete(conn, third).await.unwrap();
    until_len(&cache, 2).await;
    cache.shutdown().await;

    let mut seen = values(&snapshotter, METRICS);
    let age = seen.remove("age_seconds").unwrap();
    let confirmed = seen.remove("confirmed_timestamp_seconds").unwrap();
    let now = Timestamp::now().as_datetime().timestamp() as f64;
    assert!(age >= 0.0 && (now - confirmed).abs() < 600.0, "{age} {confirmed}");
    let expected = [
        ("experiments", 2.0),
        ("listening", 1.0),
        ("picks_total not_experimented", 1.0),
        ("picks_total paused", 2.0),
        ("picks_total served", 3.0),
        ("picks_total stale", 0.0),
        ("picks_total unavailable", 4.0),
        ("polls_total", 1.0),
        ("reconnects_total", 0.0),
        ("reloads_total", 4.0),
    ];
    assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value)).into());
}

#[tokio::test]
async fn counts_and_reports_what_an_outage_does_to_it() {
    let (log, _log_guard) = Log::of_thread();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let db = TestDatabase::new().await;
    active(&mut db.connect().await, "partner/foo").await;
    let network = Network::to(&db.url()).await;
    let limit = Duration::from_secs(1);
    let cache =
        RoutingCache::start(&options(network.url()), polled().max_staleness(limit)).await.unwrap();
    let value = |name: &str| values(&snapshotter, METRICS)[name];
    let mut polls = 0.0;
    eventually("it has polled", async || {
        yield_now().await;
        polls += value("polls_total");
        polls > 3.0
    })
    .await;

    network.cut();
    eventually("it says that it is old", async || {
        yield_now().await;
        // Several attempts failed since the limit.
        value("age_seconds") > 3.0 * limit.as_secs_f64()
    })
    .await;
    let errors = log.errors();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("routing is stale"), "{errors:#?}");
    for _ in 0..3 {
        assert_eq!(pick(&cache, "partner/foo"), Route::Unavailable(Unavailable::Stale));
    }
    let counted = values(&snapshotter, METRICS);
    assert_eq!((counted["picks_total stale"], counted["reconnects_total"]), (3.0, 0.0));

    network.mend();
    until(&cache, "partner/foo", is_served).await;
    eventually("it has reconnected", async || {
        yield_now().await;
        value("reconnects_total") == 1.0
    })
    .await;
}

async fn until_len(cache: &RoutingCache, len: usize) {
    eventually("the cache knows", async || {
        yield_now().await;
        cache.len() == len
    })
    .await;
}

#[tokio::test]
async fn shows_no_byte_of_a_key() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    active(conn, "partner/foo").await;
    let cache = cache(&db, notified()).await;
    let route = cache.pick("partner/foo", Subject::user("user-1"));
    assert!(is_served(&route));
    let shown = format!("{cache:?} {cache:#?} {route:?} {route:#?}");
    assert!(shown.contains("RoutingCache { len: 1, age: "), "{shown}");
    let keys = "SELECT string_agg(value, ' ') AS text FROM model_experiment_variant_version,
        jsonb_each_text(encrypted_api_key)";
    let stored = text(conn, keys).await;
    assert_eq!(stored.split(' ').count(), 6);
    for secret in stored.split(' ').chain([API_KEY]) {
        assert!(!shown.contains(secret));
    }
}
