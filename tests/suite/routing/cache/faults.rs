//! Outages: what a cache serves while it can't reach the database, and afterwards.

use crate::routing::cache::freshness::{database_time, publish_in};
use crate::routing::cache::{
    BACKENDS, cache, internal_id_of, is_served, notified, pick, polled, served, until, until_served,
};
use crate::support::fixtures::{active, eventually, number, pid, publish_now, raw, text};
use crate::support::log::Log;
use crate::support::network::Network;
use crate::support::postgres::{Binaries, Server};
use crate::support::{TestDatabase, connect, options};
use chrono::TimeDelta;
use diesel_async::AsyncPgConnection;
use model_experiments::routing::{Route, Unavailable};
use model_experiments::{RoutingCache, experiments, migrations};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::task::yield_now;

const STALE: Route = Route::Unavailable(Unavailable::Stale);

/// The connection on which nothing but notifications and heartbeats was asked for.
const LISTENER: &str = "(query LIKE 'LISTEN %' OR query = '')";

/// How many connections a cache has.
const CONNECTIONS: i64 = 2;

/// Ends those connections of the cache that `are_killed` selects, and waits until it has others.
async fn kill(watcher: &mut AsyncPgConnection, are_killed: &str) {
    until_connected(watcher, "").await;
    let pids = format!("SELECT string_agg(pid::text, ', ') AS text {BACKENDS} AND {are_killed}");
    let pids = text(watcher, &pids).await;
    let kill = format!("SELECT pg_terminate_backend(pid) FROM unnest(ARRAY[{pids}]) pid");
    raw(watcher, &kill).await.unwrap();
    until_connected(watcher, &format!("AND pid NOT IN ({pids})")).await;
}

async fn until_connected(watcher: &mut AsyncPgConnection, by: &str) {
    let count = format!("SELECT count(*) AS number {BACKENDS} {by}");
    eventually("the cache is connected", async || number(watcher, &count).await == CONNECTIONS)
        .await;
}

#[tokio::test]
async fn a_killed_connection_is_made_anew_and_listens_again() {
    makes_killed_connections_anew(&TestDatabase::new().await).await;
}

pub async fn makes_killed_connections_anew(db: &TestDatabase) {
    let conn = &mut db.connect().await;
    active(conn, "partner/foo").await;
    let cache = cache(db, notified()).await;
    let served = served(&cache, "partner/foo");
    for round in 1..=3 {
        let kill_all = format!("SELECT pg_terminate_backend(pid) {BACKENDS}");
        until_connected(conn, "").await;
        raw(conn, &kill_all).await.unwrap();
        // Before or after it listens again.
        publish_now(conn, served.variant, &format!("at once {round}")).await;
        until_served(&cache, "partner/foo", &format!("at once {round}")).await;
        kill(conn, LISTENER).await;
        publish_now(conn, served.variant, &format!("later {round}")).await;
        until_served(&cache, "partner/foo", &format!("later {round}")).await;
    }
}

#[tokio::test]
async fn a_locked_table_is_waited_for() {
    waits_for_a_locked_table(&TestDatabase::new().await).await;
}

pub async fn waits_for_a_locked_table(db: &TestDatabase) {
    let (log, _guard) = Log::of_thread();
    let conn = &mut db.connect().await;
    active(conn, "partner/foo").await;
    let cache = cache(db, polled().load_timeout(Duration::from_millis(300))).await;
    let served = served(&cache, "partner/foo");
    raw(conn, "BEGIN; LOCK TABLE model_experiment, model_experiment_variant").await.unwrap();
    eventually("loads have timed out", async || {
        yield_now().await;
        assert!(is_served(&pick(&cache, "partner/foo")));
        log.lines().iter().filter(|line| line.contains("can't be kept up to date yet")).count() > 1
    })
    .await;
    raw(conn, "ROLLBACK").await.unwrap();
    publish_now(conn, served.variant, "after the lock").await;
    until_served(&cache, "partner/foo", "after the lock").await;
}

#[tokio::test]
async fn a_schedule_is_kept_over_a_new_connection() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    active(conn, "partner/foo").await;
    let cache = cache(&db, notified()).await;
    let variant = served(&cache, "partner/foo").variant;
    let at = publish_in(conn, variant, "scheduled", TimeDelta::milliseconds(1_500)).await;
    kill(conn, LISTENER).await;
    until_served(&cache, "partner/foo", "scheduled").await;
    assert!(database_time(conn).await >= at);
}

#[tokio::test]
async fn changes_during_an_outage_are_seen_after_it() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    active(conn, "partner/foo").await;
    let gone = active(conn, "partner/gone").await;
    let network = Network::to(&db.url()).await;
    let cache = RoutingCache::start(&options(network.url()), notified()).await.unwrap();
    let served = served(&cache, "partner/foo");

    network.cut();
    publish_now(conn, served.variant, "meanwhile").await;
    experiments::complete(conn, gone.experiment.id).await.unwrap();
    active(conn, "partner/new").await;
    // It serves what it holds.
    assert!(is_served(&pick(&cache, "partner/gone")));
    assert_eq!(pick(&cache, "partner/new"), Route::NotExperimented);

    network.mend();
    until_served(&cache, "partner/foo", "meanwhile").await;
    until(&cache, "partner/gone", |route| *route == Route::NotExperimented).await;
    until(&cache, "partner/new", is_served).await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_arrives_counts_as_lost() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    active(conn, "partner/foo").await;
    let network = Network::to(&db.url()).await;
    let timeout = Duration::from_secs(2);
    let patience = polled().load_timeout(timeout);
    let cache = RoutingCache::start(&options(network.url()), patience).await.unwrap();
    let served = served(&cache, "partner/foo");

    network.silence();
    publish_now(conn, served.variant, "meanwhile").await;
    eventually("a load has timed out", async || {
        yield_now().await;
        cache.age() > timeout + timeout / 2
    })
    .await;
    assert_ne!(internal_id_of(&pick(&cache, "partner/foo")), Some("meanwhile"));
    network.mend();
    until_served(&cache, "partner/foo", "meanwhile").await;
}

#[tokio::test]
async fn a_silent_connection_is_noticed_without_a_poll() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    active(conn, "partner/foo").await;
    let network = Network::to(&db.url()).await;
    let cache = RoutingCache::start(&options(network.url()), notified()).await.unwrap();
    let served = served(&cache, "partner/foo");

    // What is connected stays silent.
    network.silence();
    yield_now().await;
    publish_now(conn, served.variant, "meanwhile").await;
    network.mend();
    until_served(&cache, "partner/foo", "meanwhile").await;
}

#[tokio::test]
async fn is_stale_past_the_limit_and_recovers() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    active(conn, "partner/foo").await;
    let network = Network::to(&db.url()).await;
    let limit = Duration::from_secs(4);
    let cache =
        RoutingCache::start(&options(network.url()), polled().max_staleness(limit)).await.unwrap();
    assert!(is_served(&pick(&cache, "partner/foo")));
    assert_eq!(pick(&cache, "partner/none"), Route::NotExperimented);

    network.cut();
    for model in ["partner/foo", "partner/none"] {
        // The ages before and after the pick bound its answer.
        eventually("it is stale", async || {
            yield_now().await;
            let before = cache.age();
            let route = pick(&cache, model);
            assert!(before <= limit || route == STALE, "{before:?} {route:?}");
            assert!(cache.age() > limit || route != STALE, "{route:?}");
            route == STALE
        })
        .await;
    }
    network.mend();
    until(&cache, "partner/foo", is_served).await;
    until(&cache, "partner/none", |route| *route == Route::NotExperimented).await;
    eventually("it is young again", async || {
        yield_now().await;
        cache.age() <= limit
    })
    .await;
}

#[tokio::test]
async fn a_server_that_crashes_and_starts_again_is_followed_again() {
    // Unlike the other tests' server, this one must keep what was committed.
    let settings = |_: &Path| Ok(vec!["synchronous_commit=on".to_owned()]);
    let server = Server::start_with(&Binaries::find(|_| {}).unwrap(), None, settings).unwrap();
    let url = server.url("postgres");
    migrations::run(&options(&url)).await.unwrap();
    let conn = &mut connect(&url).await.unwrap();
    active(conn, "partner/foo").await;
    let cache = RoutingCache::start(&options(&url), notified()).await.unwrap();
    let served = served(&cache, "partner/foo");

    // The server restarts all its processes when one of them is killed.
    let witness = &mut connect(&url).await.unwrap();
    let victim = pid(conn).await.to_string();
    assert!(Command::new("kill").args(["-KILL", &victim]).status().unwrap().success());
    eventually("every connection is lost", async || raw(witness, "SELECT 1").await.is_err()).await;
    eventually("the server is up again", async || {
        assert!(is_served(&pick(&cache, "partner/foo")));
        match connect(&url).await {
            Ok(new) => {
                *conn = new;
                true
            }
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                false
            }
        }
    })
    .await;
    publish_now(conn, served.variant, "after the crash").await;
    until_served(&cache, "partner/foo", "after the crash").await;
}

#[tokio::test]
async fn a_server_that_is_killed_and_later_started_again_is_followed_again() {
    let mut server = Server::durable(&Binaries::find(|_| {}).unwrap(), &[]).unwrap();
    let url = server.url("postgres");
    migrations::run(&options(&url)).await.unwrap();
    active(&mut connect(&url).await.unwrap(), "partner/foo").await;
    let cache = RoutingCache::start(&options(&url), notified()).await.unwrap();
    let served = served(&cache, "partner/foo");

    server.kill().unwrap();
    let error = connect(&url).await.map(drop).unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert!(is_served(&pick(&cache, "partner/foo")));
    server.restart().unwrap();
    let conn = &mut connect(&url).await.unwrap();
    publish_now(conn, served.variant, "after the crash").await;
    until_served(&cache, "partner/foo", "after the crash").await;
}

#[tokio::test]
async fn an_outage_does_not_hide_what_could_not_be_loaded() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    active(conn, "partner/foo").await;
    let cache = cache(&db, polled().max_staleness(Duration::from_secs(2))).await;
    // The server answers, but not what is asked.
    raw(conn, "ALTER TABLE model_experiment RENAME TO elsewhere").await.unwrap();
    until(&cache, "partner/foo", |route| *route == STALE).await;
    raw(conn, "ALTER TABLE elsewhere RENAME TO model_experiment").await.unwrap();
    until(&cache, "partner/foo", is_served).await;
}
