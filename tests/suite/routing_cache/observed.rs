//! What a cache lets its operators see, and what it doesn't.

use super::{announce, announced, cache, pick, polled, until, user};
use crate::support::TestDatabase;
use crate::support::fixtures::{API_KEY, active, eventually, publish_now, raw, text, unguard};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use model_experiments::operations::lifecycle;
use model_experiments::operations::routing::{Route, Unavailable};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use tokio::task::yield_now;
use tracing_subscriber::fmt::MakeWriter;

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn an_experiment_that_can_not_be_served_is_reported_once() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let errors = || log.lines().into_iter().filter(|line| line.contains(" ERROR ")).count();

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
        announce(conn, "partner/foo").await;
        publish_now(conn, foo.candidate.id, "rc2").await;
        let marker = active(conn, "partner/marker").await.experiment.id;
        until(&cache, "partner/marker", |route| matches!(route, Route::Serve(_))).await;
        lifecycle::complete(conn, marker).await.unwrap();
        until(&cache, "partner/marker", |route| *route == Route::NotExperimented).await;
    }
    assert_eq!(errors(), 1);

    // Otherwise broken, it is reported again; so it is when it was mended in between.
    raw(conn, &set("[]")).await.unwrap();
    announce(conn, "partner/foo").await;
    eventually("it is reported again", async || {
        yield_now().await;
        errors() == 2
    })
    .await;
    publish_now(conn, foo.control.id, "mended").await;
    until(&cache, "partner/foo", |route| matches!(route, Route::Serve(_))).await;
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
    lifecycle::pause(conn, paused).await.unwrap();
    let cache = cache(&db, announced()).await;
    for (model, times) in [("partner/foo", 3), ("partner/paused", 2), ("partner/none", 1)] {
        for _ in 0..times {
            pick(&cache, model);
        }
    }
    for _ in 0..4 {
        cache.pick("partner/foo", None);
    }
    let third = active(conn, "partner/third").await.experiment.id;
    until_len(&cache, 3).await;
    lifecycle::complete(conn, third).await.unwrap();
    until_len(&cache, 2).await;
    cache.shutdown().await;

    let mut seen = Vec::new();
    for (key, _, description, value) in snapshotter.snapshot().into_vec() {
        let key = key.key();
        assert!(description.is_some(), "{key}");
        let labels: Vec<_> = key.labels().map(|label| label.value().to_owned()).collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(_) => panic!("{key}"),
        };
        let name = key.name().strip_prefix("model_experiments_routing_").unwrap();
        seen.push(([&[name.to_owned()], &labels[..]].concat().join(" "), value));
    }
    seen.sort_by(|(one, _), (other, _)| one.cmp(other));
    let (age, seen): (Vec<_>, Vec<_>) =
        seen.into_iter().partition(|(name, _)| name == "age_seconds");
    assert!(age.len() == 1 && age[0].1 >= 0.0 && age[0].1 < 60.0, "{age:?}");
    let expected = [
        ("experiments", 2.0),
        ("picks_total not_experimented", 1.0),
        ("picks_total paused", 2.0),
        ("picks_total served", 3.0),
        ("picks_total stale", 0.0),
        ("picks_total unavailable", 4.0),
        ("polls_total", 0.0),
        ("reconnects_total", 0.0),
        ("reloads_total", 2.0),
    ];
    assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value)));
}

async fn until_len(cache: &model_experiments::RoutingCache, len: usize) {
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
    let cache = cache(&db, announced()).await;
    let route = cache.pick("partner/foo", user("user-1"));
    assert!(matches!(route, Route::Serve(_)));
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
