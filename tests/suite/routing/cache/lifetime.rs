//! How a cache starts and ends.

use crate::routing::cache::{BACKENDS, cache, is_served, notified, pick};
use crate::support::fixtures::{active, eventually, free_port, number};
use crate::support::{TestDatabase, options};
use model_experiments::error::Transient;
use model_experiments::routing::Subject;
use model_experiments::{ConnectOptions, Error, RoutingCache, RoutingOptions};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::yield_now;

async fn refusal(connect: &ConnectOptions, options: RoutingOptions) -> Error {
    RoutingCache::start(connect, options).await.unwrap_err()
}

#[tokio::test]
async fn starts_only_with_everything_loaded() {
    let db = TestDatabase::new().await;
    active(&mut db.connect().await, "partner/foo").await;
    let cache = cache(&db, notified()).await;
    assert_eq!(cache.len(), 1);
    assert!(is_served(&pick(&cache, "partner/foo")));

    let unreachable = format!("postgres://gateway:hunter2@127.0.0.1:{}/app", free_port());
    let error = refusal(&options(&unreachable), RoutingOptions::default()).await;
    assert!(matches!(error, Error::Transient { kind: Transient::ConnectionLost, .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));

    let unusable = options("postgres://db.example/app").application_name("a\0");
    let error = refusal(&unusable, RoutingOptions::default()).await;
    assert!(matches!(error, Error::Configuration(_)), "{error}");

    let empty = TestDatabase::empty().await;
    match refusal(&empty.options(), RoutingOptions::default()).await {
        Error::Database(cause) => {
            assert!(cause.message().contains("model_experiment"), "{cause}");
        }
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn impossible_options_are_refused() {
    let second = Duration::from_secs(1);
    let connect = options("postgres://db.example/app");
    for options in [
        RoutingOptions::default().poll_interval(Duration::ZERO),
        RoutingOptions::default().load_timeout(Duration::ZERO),
        RoutingOptions::default().max_staleness(Duration::ZERO),
        RoutingOptions::default().poll_interval(second).max_staleness(second),
        RoutingOptions::default().poll_interval(Duration::MAX / 2).max_staleness(Duration::MAX),
    ] {
        let error = refusal(&connect, options).await;
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
        let cache = cache(&db, notified()).await;
        let clone = cache.clone();
        assert_eq!(number(watcher, &count).await, 2);
        assert!(tasks() > before);
        drop(cache);
        assert!(is_served(&pick(&clone, "partner/foo")));
        if is_shut_down {
            clone.shutdown().await;
            clone.shutdown().await;
            // It still serves what it holds.
            assert!(is_served(&pick(&clone, "partner/foo")));
        } else {
            drop(clone);
        }
        eventually("its tasks are over", async || {
            yield_now().await;
            tasks() == before
        })
        .await;
        eventually("its connections are closed", async || number(watcher, &count).await == 0).await;
    }
}

#[test]
fn serves_after_its_runtime_has_ended() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let db = second.block_on(TestDatabase::new());
    let cache = first.block_on(async {
        active(&mut db.connect().await, "partner/foo").await;
        cache(&db, notified()).await
    });
    drop(first);
    assert!(is_served(&cache.pick("partner/foo", Subject::user("u"))));
    second.block_on(cache.shutdown());
}
