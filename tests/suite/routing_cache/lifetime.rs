//! How a cache starts and ends.

use super::{BACKENDS, announced, cache, pick, user};
use crate::support::TestDatabase;
use crate::support::fixtures::{active, eventually, free_port, number};
use model_experiments::error::Transient;
use model_experiments::routing::Route;
use model_experiments::{Error, RoutingCache, RoutingOptions};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::yield_now;

async fn refusal(url: &str, options: RoutingOptions) -> Error {
    RoutingCache::start(url, options).await.unwrap_err()
}

#[tokio::test]
async fn starts_only_with_everything_loaded() {
    let db = TestDatabase::new().await;
    active(&mut db.connect().await, "partner/foo").await;
    let cache = cache(&db, announced()).await;
    assert_eq!(cache.len(), 1);
    assert!(matches!(pick(&cache, "partner/foo"), Route::Serve(_)));

    let nobody = format!("postgres://gateway:hunter2@127.0.0.1:{}/app", free_port());
    let error = refusal(&nobody, RoutingOptions::default()).await;
    assert!(matches!(error, Error::Transient { kind: Transient::ConnectionLost, .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));

    let error = refusal("mysql://db.example", RoutingOptions::default()).await;
    assert!(matches!(error, Error::Configuration(_)), "{error}");

    let empty = TestDatabase::empty().await;
    let error = refusal(&empty.url(), RoutingOptions::default()).await;
    assert!(
        matches!(&error, Error::Database(text) if text.contains("model_experiment")),
        "{error}"
    );
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let second = Duration::from_secs(1);
    for options in [
        RoutingOptions::default().poll_interval(Duration::ZERO),
        RoutingOptions::default().load_timeout(Duration::ZERO),
        RoutingOptions::default().max_staleness(Duration::ZERO),
        RoutingOptions::default().poll_interval(second).max_staleness(second),
        RoutingOptions::default().poll_interval(Duration::MAX / 2).max_staleness(Duration::MAX),
        RoutingOptions::default().application_name("a\0"),
    ] {
        let error = refusal("postgres://db.example/app", options).await;
        assert!(matches!(error, Error::Configuration(_)), "{error}");
    }
}

#[tokio::test]
async fn leaves_neither_a_task_nor_a_connection_behind() {
    let db = TestDatabase::new().await;
    let watcher = &mut db.connect().await;
    active(watcher, "partner/foo").await;
    let count = format!("SELECT count(*) AS number {BACKENDS}");
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for is_shut_down in [true, false] {
        let cache = cache(&db, announced()).await;
        let clone = cache.clone();
        assert_eq!(number(watcher, &count).await, 1);
        assert!(tasks() > before);
        drop(cache);
        assert!(matches!(pick(&clone, "partner/foo"), Route::Serve(_)));
        if is_shut_down {
            clone.shutdown().await;
            clone.shutdown().await;
            // What is held is still there, and grows old.
            assert!(matches!(pick(&clone, "partner/foo"), Route::Serve(_)));
        } else {
            drop(clone);
        }
        eventually("its tasks are over", async || {
            yield_now().await;
            tasks() == before
        })
        .await;
        eventually("its connection is closed", async || number(watcher, &count).await == 0).await;
    }
}

#[test]
fn outlives_its_runtime_without_harm() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let db = second.block_on(TestDatabase::new());
    let cache = first.block_on(async {
        active(&mut db.connect().await, "partner/foo").await;
        cache(&db, announced()).await
    });
    drop(first);
    assert!(matches!(cache.pick("partner/foo", user("u")), Route::Serve(_)));
    second.block_on(cache.shutdown());
}
