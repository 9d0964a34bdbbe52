//! Pgpool-II, which sends reads to a standby that lags.

use diesel_async::AsyncPgConnection;
use model_experiments::recording::{self, Outcome, Record, Usage, record};
use model_experiments::routing::{Route, Subject};
use model_experiments::values::VersionId;
use model_experiments::{Error, RoutingCache, RoutingOptions};
use std::time::{Duration, Instant};
use tokio::task::yield_now;

use crate::pgpool::Pgpool;
use crate::poolers::{assert_refused, is_timeout, run_all};
use crate::support::fixtures::{active, eventually, insert_usage, option, raw, request};
use crate::support::postgres::{Binaries, Server};
use crate::support::{TEMPLATE, connect, options, primary, until_replayed};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3_600);

/// The longest statement.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How much later a busy machine may notice.
const GRACE: Duration = Duration::from_secs(3);

/// A primary and a standby that has replayed an active experiment and nothing after it.
struct Servers {
    primary: Server,
    standby: Server,
    version: VersionId,
}

impl Servers {
    async fn start() -> Self {
        let binaries = Binaries::find(|_| {}).unwrap();
        let primary = primary(&binaries, &[]);
        let standby = Server::standby(&binaries, &primary, &[]).unwrap();
        let conn = &mut connect(&primary.url(TEMPLATE)).await.unwrap();
        let behind = &mut connect(&standby.url(TEMPLATE)).await.unwrap();
        let version = active(conn, "partner/foo").await.control_version.id;
        until_replayed(conn, behind).await;
        raw(behind, "SELECT pg_wal_replay_pause()").await.unwrap();
        Self { primary, standby, version }
    }

    async fn primary(&self) -> AsyncPgConnection {
        connect(&self.primary.url(TEMPLATE)).await.unwrap()
    }

    /// How to connect through pgpool, which is a session's pooler.
    fn pooled(&self, load_balance_mode: &str) -> Option<(Pgpool, String)> {
        let urls = [&self.primary, &self.standby].map(|server| server.url(TEMPLATE));
        let pooler = Pgpool::start(&urls[0], &urls[1], load_balance_mode)?;
        let url = option(&pooler.url(), "pooler=session");
        Some((pooler, url))
    }
}

#[tokio::test]
async fn a_usage_that_is_there_is_found_whatever_lags() {
    let servers = Servers::start().await;
    for mode in ["on", "off"] {
        let Some((_pooler, url)) = servers.pooled(mode) else { return };
        let conn = &mut connect(&url).await.unwrap();
        let request = request(servers.version);
        let billed = Usage::new("user-1");
        assert!(insert_usage(&mut servers.primary().await, &billed).await);
        let read = recording::find_usage(conn, billed.id).await.unwrap();
        assert_eq!(read.is_none(), mode == "on", "load_balance_mode = {mode}");
        for expected in [Outcome::Recorded, Outcome::AlreadyRecorded] {
            let outcome = record::attribute(conn, billed.id, &request).await;
            assert_eq!(outcome, Ok(expected), "load_balance_mode = {mode}");
        }
        let new = Record::new(Usage::new("user-1"), request.clone());
        let lacking = Record::new(Usage::new("user-1"), request.clone());
        assert!(insert_usage(&mut servers.primary().await, &lacking.usage).await);
        for expected in [Outcome::Recorded, Outcome::AlreadyRecorded] {
            assert_eq!(record::one(conn, &new).await, Ok(expected));
            let outcomes = record::many(conn, &[&new, &lacking]).await.unwrap();
            assert_eq!(outcomes, [Ok(Outcome::AlreadyRecorded), Ok(expected)]);
            let outcomes = record::usages(conn, &[&new.usage, &billed]).await.unwrap();
            assert_eq!(outcomes, [const { Ok(Outcome::AlreadyRecorded) }; 2]);
        }
    }
}

#[tokio::test]
async fn without_load_balancing_everything_works() {
    let servers = Servers::start().await;
    let Some((pooler, url)) = servers.pooled("off") else { return };
    assert_refused(connect(&pooler.url()).await.map(drop), &["pooler=session"]);
    run_all(&mut connect(&url).await.unwrap(), "partner/all").await.unwrap();

    let notified = RoutingOptions::default().poll_interval(NEVER).max_staleness(2 * NEVER);
    let cache = RoutingCache::start(&options(&url), notified).await.unwrap();
    active(&mut servers.primary().await, "partner/new").await;
    let is_served =
        || matches!(cache.pick("partner/new", Subject::user("user-1")), Route::Serve(_));
    eventually("the cache is notified", async || {
        yield_now().await;
        is_served()
    })
    .await;
}

/// The standby's session has no settings of ours.
#[tokio::test]
async fn a_read_of_a_standby_is_ended_by_the_client() {
    let servers = Servers::start().await;
    for (mode, timeout) in [("off", TIMEOUT), ("on", TIMEOUT + Duration::from_secs(5))] {
        let Some((_pooler, url)) = servers.pooled(mode) else { return };
        let connected = options(&url).statement_timeout(TIMEOUT).connect().await;
        let start = Instant::now();
        let endless = "SELECT count(*) FROM generate_series(1, 1000000000) numbers";
        let outcome = raw(&mut connected.unwrap(), endless).await.map_err(Error::from);
        assert!(is_timeout(&outcome), "{outcome:?}");
        println!("load_balance_mode = {mode}: ended after {:.1?}", start.elapsed());
        assert!((timeout..timeout + GRACE).contains(&start.elapsed()));
    }
}
