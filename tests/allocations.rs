//! Limits on allocations. The counting allocator needs a process of its own.

#[expect(dead_code, reason = "the suite uses the rest")]
#[path = "support/mod.rs"]
mod support;

use metrics_util::debugging::DebuggingRecorder;
use model_experiments::recording::{Receipt, Record, Usage};
use model_experiments::routing::{Route, Subject, Unavailable};
use model_experiments::values::{AllocationSubject, CAPTURE_CAP, PromptCapture, VersionId};
use model_experiments::{
    ConnectOptions, Recorder, RecorderOptions, RoutingCache, RoutingOptions, experiments,
};
use serde_json::json;
use std::time::Duration;
use support::TestDatabase;
use support::fixtures::{active, raw, request, unguard, until_blocked};
use support::network::Network;
use tokio::runtime::Builder;

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

/// Memory of a recorder beside `max_bytes`: copies of one batch while it is written, and buffers.
const BESIDE_MAX_BYTES: usize = 24 << 20;

/// A record of about `bytes`, at least 300.
fn sized(version: VersionId, bytes: usize) -> Record {
    let text = || Some("x".repeat((bytes / 3).min(65_536)));
    let usage =
        Usage { model: text(), provider: text(), project_id: text(), ..Usage::new("user-1") };
    Record::new(usage, request(version))
}

/// Fills the recorder.
fn fill(recorder: &Recorder, version: VersionId, bytes: usize) -> Vec<Receipt> {
    let submit = || recorder.try_submit(sized(version, bytes)).ok();
    std::iter::from_fn(submit).collect()
}

#[test]
fn a_recorder_takes_little_more_memory_than_its_maximum() {
    const MAX_BYTES: usize = 32 << 20;
    for (bytes, is_cut) in [(190_000, false), (190_000, true), (300, false), (300, true)] {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (db, mut conn, mut watcher, version) = runtime.block_on(async {
            let db = TestDatabase::new().await;
            let mut conn = db.connect().await;
            let version = active(&mut conn, "partner/foo").await.control_version.id;
            let watcher = db.connect().await;
            (db, conn, watcher, version)
        });
        let network = runtime.block_on(Network::to(&db.url()));
        let retry_for = Duration::from_secs(if is_cut { 3 } else { 600 });
        let options = RecorderOptions::default()
            .max_batch(10_000)
            .max_records(1_000_000)
            .max_bytes(MAX_BYTES)
            .retry_for(retry_for);
        let connect = ConnectOptions::parse(network.url()).unwrap();
        let recorder = runtime.block_on(Recorder::start(&connect, options)).unwrap();
        runtime.block_on(raw(&mut conn, "BEGIN; LOCK TABLE microdollar_usage")).unwrap();
        let allocated = allocation_counter::measure(|| {
            runtime.block_on(async {
                let receipts = fill(&recorder, version, bytes);
                assert!(receipts.len() > 100, "{}", receipts.len());
                if is_cut {
                    network.cut();
                } else {
                    until_blocked(&mut watcher).await;
                    raw(&mut conn, "ROLLBACK").await.unwrap();
                }
                for receipt in receipts {
                    assert_eq!(receipt.await.is_ok(), !is_cut);
                }
            });
        });
        let peak = usize::try_from(allocated.bytes_max).unwrap();
        println!("{bytes} {is_cut}: peak {:.1} MiB", peak as f64 / (1 << 20) as f64);
        assert!(peak <= MAX_BYTES + BESIDE_MAX_BYTES, "{bytes} bytes, {is_cut}: {peak}");
        runtime.block_on(recorder.shutdown(Duration::from_secs(10)));
    }
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
