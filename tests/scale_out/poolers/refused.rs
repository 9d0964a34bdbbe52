//! Poolers that can mix up the statements of their clients are refused, with what is missing.

use model_experiments::{Recorder, RecorderOptions, RoutingCache, RoutingOptions, migrations};

use crate::pgbouncer::{Pgbouncer, Release};
use crate::poolers::{assert_refused, pool};
use crate::support::{TestDatabase, options};

/// Tries each way to connect.
async fn refused_everywhere(pooler: &Pgbouncer, words: &[&str]) {
    let connect = options(&pooler.url());
    assert_refused(connect.connect().await.map(drop), words);
    let pool = pool(connect.clone(), 1);
    assert_refused(pool.get().await.map(drop), words);
    assert_refused(pool.health().await, words);
    assert_refused(Recorder::start(&connect, RecorderOptions::default()).await, words);
    assert_refused(RoutingCache::start(&connect, RoutingOptions::default()).await, words);
    assert_refused(migrations::run(&connect).await, words);
    assert_refused(migrations::pending(&connect).await, words);
}

#[tokio::test]
async fn what_tracks_no_statements_is_refused() {
    let database = TestDatabase::new().await;
    for (release, settings) in [
        (Release::Untracking, &["pool_mode = transaction"][..]),
        (Release::Tracking, &["pool_mode = transaction", "max_prepared_statements = 0"]),
        // Session mode looks the same until the URL says that it is.
        (Release::Untracking, &["pool_mode = session"]),
        (Release::Tracking, &["pool_mode = session"]),
        (Release::Tracking, &["pool_mode = session", "max_prepared_statements = 0"]),
    ] {
        let Some(pooler) = Pgbouncer::start(release, &database.url(), settings) else { return };
        refused_everywhere(&pooler, &["max_prepared_statements", "pooler=session"]).await;
    }
}

#[tokio::test]
async fn statement_mode_is_refused() {
    let database = TestDatabase::new().await;
    for release in Release::ALL {
        let settings = ["pool_mode = statement"];
        let Some(pooler) = Pgbouncer::start(release, &database.url(), &settings) else { return };
        refused_everywhere(&pooler, &["statement"]).await;
    }
}
