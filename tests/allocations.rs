//! Limits on allocations. The counting allocator needs a process of its own.

#[expect(dead_code, reason = "the suite uses the rest")]
#[path = "support/mod.rs"]
mod support;

use metrics_util::debugging::DebuggingRecorder;
use model_experiments::routing::{Route, Subject, Unavailable};
use model_experiments::values::{AllocationSubject, CAPTURE_CAP, PromptCapture};
use model_experiments::{RoutingCache, RoutingOptions, experiments};
use serde_json::json;
use support::TestDatabase;
use support::fixtures::{active, raw, unguard};

fn kind(route: &Route) -> &'static str {
    match route {
        Route::Serve(_) => "served",
        Route::NotExperimented => "not experimented",
        Route::Paused => "paused",
        Route::Unavailable(Unavailable::NoSubject) => "no subject",
        Route::Unavailable(Unavailable::Unreadable { .. }) => "unreadable",
        Route::Unavailable(reason) => panic!("{reason}"),
    }
}

#[tokio::test]
async fn a_routing_decision_allocates_nothing() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    active(conn, "partner/served").await;
    let paused = active(conn, "partner/paused").await.experiment.id;
    experiments::pause(conn, paused).await.unwrap();
    let broken = active(conn, "partner/broken").await;
    unguard(conn).await;
    let sql = format!(
        "UPDATE model_experiment_variant_version SET upstream = '[]' WHERE id = '{}'",
        broken.control_version.id
    );
    raw(conn, &sql).await.unwrap();
    // With a metrics recorder, so that the metrics of decisions are measured, too.
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let cache = RoutingCache::start(&db.options(), RoutingOptions::default()).await.unwrap();

    let user = Subject::new(AllocationSubject::User, "user-1");
    // A thread registers as a reader at its first pick, which allocates.
    cache.pick("partner/served", user);
    for (model, subject, expected) in [
        ("partner/served", user, "served"),
        ("partner/served", Subject::unknown(), "no subject"),
        ("partner/paused", user, "paused"),
        ("partner/broken", user, "unreadable"),
        ("partner/none", user, "not experimented"),
    ] {
        let mut route = None;
        let allocated = allocation_counter::measure(|| route = Some(cache.pick(model, subject)));
        let route = route.unwrap();
        assert_eq!((kind(&route), allocated.count_total), (expected, 0), "{model}");
        let allocated = allocation_counter::measure(|| drop(route.clone()));
        assert_eq!(allocated.count_total, 0, "{model}");
    }
    let counted = allocation_counter::measure(|| drop(db.url()));
    assert!(counted.count_total > 0);
}

#[test]
fn a_captured_prompt_is_held_once() {
    let message = "Why is the sky blue?\n".repeat(50);
    for (messages, is_truncated) in [(3_600, false), (4_500, true)] {
        let body = json!({"messages": vec![json!({"role": "user", "content": message}); messages]});
        let mut capture = None;
        let allocated = allocation_counter::measure(|| capture = Some(PromptCapture::of(&body)));
        let rest = capture.as_ref().unwrap().request_body().unwrap();
        assert_eq!(rest.is_truncated(), is_truncated);
        assert!(rest.text().len() > CAPTURE_CAP * 9 / 10, "{}", rest.text().len());
        // Beside the text there is only working memory.
        let other_bytes = allocated.bytes_total - rest.text().len() as u64;
        assert!(other_bytes < (CAPTURE_CAP / 8) as u64, "{other_bytes} bytes beside the text");
    }
}

#[test]
fn a_system_prompt_is_borrowed() {
    let text = "Be brief.\n".repeat(CAPTURE_CAP / 10);
    let body = json!({"messages": [{"role": "system", "content": text}]});
    let mut capture = None;
    let allocated = allocation_counter::measure(|| capture = Some(PromptCapture::of(&body)));
    assert_eq!(capture.unwrap().system_prompt().unwrap().text(), text);
    assert!((1..1_000).contains(&allocated.bytes_total), "{} bytes", allocated.bytes_total);
}
