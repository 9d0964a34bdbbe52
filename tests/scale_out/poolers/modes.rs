//! The modes in which everything works: operations, recorder and cache.

use model_experiments::routing::{Route, Subject};
use model_experiments::{RoutingCache, RoutingOptions, experiments};
use std::time::Duration;
use tokio::task::yield_now;

use crate::poolers::operations::run_all;
use crate::poolers::{WORKING, pool};
use crate::support::fixtures::{active, eventually};
use crate::support::{TestDatabase, options};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn every_operation_works() {
    for mode in WORKING {
        let database = TestDatabase::new().await;
        let Some((_pooler, url)) = mode.start(&database, &["default_pool_size = 2"]) else {
            return;
        };
        let pool = pool(options(&url), 2);
        pool.health().await.unwrap();
        for round in 0..3 {
            let conn = &mut pool.get().await.unwrap();
            run_all(conn, &format!("partner/{round}")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_cache_follows_by_notification_in_session_mode_and_else_by_polling() {
    for mode in WORKING {
        let database = TestDatabase::new().await;
        let Some((_pooler, url)) = mode.start(&database, &[]) else { return };
        let poll = if mode.is_session { NEVER } else { Duration::from_millis(100) };
        let following = RoutingOptions::default().poll_interval(poll).max_staleness(2 * NEVER);
        let cache = RoutingCache::start(&options(&url), following).await.unwrap();
        let pool = pool(options(&url), 1);
        let conn = &mut pool.get().await.unwrap();
        let until = async |what: &str, is_expected: fn(&Route) -> bool| {
            eventually(what, async || {
                yield_now().await;
                is_expected(&cache.pick("partner/foo", Subject::user("user-1")))
            })
            .await;
        };
        let experiment = active(conn, "partner/foo").await.experiment.id;
        until("it is served", |route| matches!(route, Route::Serve(_))).await;
        experiments::pause(conn, experiment).await.unwrap();
        until("it is paused", |route| *route == Route::Paused).await;
        experiments::complete(conn, experiment).await.unwrap();
        until("it is over", |route| *route == Route::NotExperimented).await;
        cache.shutdown().await;
    }
}
