//! What allocates nothing, in a process of its own: counting takes an allocator that the other tests don't have.

#[expect(dead_code, reason = "the suite uses the rest")]
#[path = "support/mod.rs"]
mod support;

use metrics_util::debugging::DebuggingRecorder;
use model_experiments::bucketing::Subject;
use model_experiments::operations::lifecycle;
use model_experiments::operations::routing::{Route, Unavailable};
use model_experiments::values::AllocationSubject;
use model_experiments::{RoutingCache, RoutingOptions};
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
    lifecycle::pause(conn, paused).await.unwrap();
    let broken = active(conn, "partner/broken").await;
    unguard(conn).await;
    let sql = format!(
        "UPDATE model_experiment_variant_version SET upstream = '[]' WHERE id = '{}'",
        broken.control_version.id
    );
    raw(conn, &sql).await.unwrap();
    // Decisions are counted, too.
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let cache = RoutingCache::start(&db.url(), RoutingOptions::default()).await.unwrap();

    let user = Subject::new(AllocationSubject::User, "user-1");
    // A thread takes a place among the readers at its first pick.
    cache.pick("partner/served", user);
    for (model, subject, expected) in [
        ("partner/served", user, "served"),
        ("partner/served", None, "no subject"),
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
