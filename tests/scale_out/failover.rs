//! Failover: a primary freezes or becomes a standby, and recorder, cache and pool go on with the
//! other host of their URL.

use futures_util::future::join_all;
use model_experiments::experiments;
use model_experiments::recording::{Outcome, Record, Usage, record};
use model_experiments::routing::{Route, Subject};
use model_experiments::values::{UsageId, VersionId};
use model_experiments::{
    ConnectOptions, Pool, PoolOptions, Recorder, RecorderOptions, RoutingCache, RoutingOptions,
};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::fixtures::{active, eventually, free_port, number, raw, request, text};
use crate::support::postgres::{Binaries, Server};
use crate::support::{TEMPLATE, connect, options, primary, until_replayed};

/// The longest time until recorder, cache and pool have gone on with another host.
const BUDGET: Duration = Duration::from_secs(15);

/// Callers that record at once.
const CALLERS: usize = 16;

/// A primary and its synchronous standby, and the URL that names both.
struct Servers {
    binaries: Binaries,
    first: Server,
    second: Server,
    urls: [String; 2],
    both: ConnectOptions,
}

impl Servers {
    /// Commits wait until the standby has them.
    async fn start() -> Self {
        let ports = [free_port(), free_port()];
        let [of_first, of_second] = ports.map(|port| format!("port={port}"));
        let listen = "listen_addresses=127.0.0.1";
        let binaries = Binaries::find(|_| {}).unwrap();
        let first = primary(&binaries, &[listen, &of_first]);
        let second = Server::standby(&binaries, &first, &[listen, &of_second]).unwrap();
        let urls = [first.url(TEMPLATE), second.url(TEMPLATE)];
        let synchronous = "ALTER SYSTEM SET synchronous_standby_names = '*'";
        let conn = &mut connect(&urls[0]).await.unwrap();
        raw(conn, synchronous).await.unwrap();
        raw(conn, "SELECT pg_reload_conf()").await.unwrap();
        let synced = "SELECT count(*) AS number FROM pg_stat_replication WHERE sync_state = 'sync'";
        eventually("the standby is synchronous", async || number(conn, synced).await == 1).await;
        let [one, two] = ports;
        let both = format!(
            "postgres://postgres@127.0.0.1:{one},127.0.0.1:{two}/{TEMPLATE}?sslmode=disable"
        );
        Self { binaries, first, second, urls, both: options(&both) }
    }

    /// Makes the second the primary, whose commits wait for nobody.
    async fn promote_second(&self) {
        self.second.promote(&self.binaries).unwrap();
        let conn = &mut connect(&self.urls[1]).await.unwrap();
        raw(conn, "ALTER SYSTEM SET synchronous_standby_names = ''").await.unwrap();
        raw(conn, "SELECT pg_reload_conf()").await.unwrap();
    }
}

/// Callers that record without end, and what they were told.
struct Load {
    acknowledged: Arc<Mutex<HashSet<UsageId>>>,
    is_over: Arc<AtomicBool>,
    callers: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(recorder: &Recorder, version: VersionId) -> Self {
        let acknowledged = Arc::new(Mutex::new(HashSet::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let caller = |_| {
            let (recorder, acknowledged) = (recorder.clone(), Arc::clone(&acknowledged));
            let is_over = Arc::clone(&is_over);
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let usage = Usage::new("user-1");
                    let id = usage.id;
                    let receipt = recorder.submit(Record::new(usage, request(version)));
                    let _recorded = receipt.await.unwrap().await.unwrap();
                    acknowledged.lock().unwrap().insert(id);
                    sleep(Duration::from_millis(2)).await;
                }
            })
        };
        let callers = (0..CALLERS).map(caller).collect();
        Self { acknowledged, is_over, callers }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    async fn until_more(&self) {
        let before = self.count();
        eventually("more is acknowledged", async || {
            sleep(Duration::from_millis(10)).await;
            self.count() > before + CALLERS
        })
        .await;
    }

    async fn end(self) -> HashSet<UsageId> {
        self.is_over.store(true, Ordering::Relaxed);
        join_all(self.callers).await.into_iter().for_each(Result::unwrap);
        self.acknowledged.lock().unwrap().clone()
    }
}

/// Fails unless the database of `url` has each acknowledged record.
async fn assert_kept(url: &str, acknowledged: &HashSet<UsageId>) {
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    let conn = &mut connect(url).await.unwrap();
    let ids = "SELECT coalesce(string_agg(usage_id::text, ','), '') AS text
        FROM model_experiment_request";
    let ids = text(conn, ids).await;
    let stored: HashSet<_> = ids.split(',').collect();
    let lost = acknowledged.iter().filter(|id| !stored.contains(&*id.to_string())).count();
    assert_eq!(lost, 0, "of {}", acknowledged.len());
}

/// Records by the pool until it succeeds. Returns how often it failed.
async fn until_pool_records(pool: &Pool, version: VersionId) -> usize {
    let mut failures = 0;
    let record = Record::new(Usage::new("user-1"), request(version));
    eventually("the pool records", async || {
        let recorded = async {
            let conn = &mut pool.get().await?;
            record::one(conn, &record).await
        };
        match recorded.await {
            Ok(Outcome::Recorded | Outcome::AlreadyRecorded) => true,
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                failures += 1;
                sleep(Duration::from_millis(50)).await;
                false
            }
        }
    })
    .await;
    failures
}

async fn until_route(cache: &RoutingCache, route: Route) {
    eventually("the cache sees the change", async || {
        sleep(Duration::from_millis(10)).await;
        cache.pick("partner/foo", Subject::user("user-1")) == route
    })
    .await;
}

/// Everything that connects, over a URL of two hosts.
struct Clients {
    recorder: Recorder,
    cache: RoutingCache,
    pool: Pool,
    version: VersionId,
}

impl Clients {
    async fn start(servers: &Servers) -> Self {
        let conn = &mut connect(&servers.urls[0]).await.unwrap();
        let version = active(conn, "partner/foo").await.control_version.id;
        let both = &servers.both;
        // A change is seen by its notification.
        let hour = Duration::from_secs(3_600);
        let notified = RoutingOptions::default().poll_interval(hour).max_staleness(2 * hour);
        Self {
            recorder: Recorder::start(both, RecorderOptions::default()).await.unwrap(),
            cache: RoutingCache::start(both, notified).await.unwrap(),
            pool: Pool::new(both.clone(), PoolOptions::default()).unwrap(),
            version,
        }
    }

    /// Waits until recorder, pool and cache have gone on, and prints how long each took.
    async fn until_resumed(&self, what: &str, load: &Load, since: Instant) {
        let recorded = async {
            load.until_more().await;
            since.elapsed()
        };
        let pooled = async {
            let failures = until_pool_records(&self.pool, self.version).await;
            (since.elapsed(), failures)
        };
        let (recorder, (pool, failures)) = tokio::join!(recorded, pooled);
        self.pool.health().await.unwrap();
        let conn = &mut self.pool.get().await.unwrap();
        let id = number_of_experiment(conn).await;
        experiments::pause(conn, id).await.unwrap();
        until_route(&self.cache, Route::Paused).await;
        let cache = since.elapsed();
        println!(
            "{what}: recorder {recorder:.1?}, pool {pool:.1?} after {failures} failures, \
             cache {cache:.1?}"
        );
        for took in [recorder, pool, cache] {
            assert!(took < BUDGET, "{what}: {took:?}");
        }
        experiments::activate(conn, id).await.unwrap();
    }
}

async fn number_of_experiment(
    conn: &mut model_experiments::AsyncPgConnection,
) -> model_experiments::values::ExperimentId {
    let page = model_experiments::Page::first(1);
    let all = experiments::ExperimentFilter::default();
    experiments::list(conn, &all, page).await.unwrap()[0].id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_primary_is_left_for_the_promoted_standby() {
    let mut servers = Servers::start().await;
    let clients = Clients::start(&servers).await;
    let load = Load::start(&clients.recorder, clients.version);
    load.until_more().await;
    until_pool_records(&clients.pool, clients.version).await;

    servers.first.freeze().unwrap();
    let frozen = Instant::now();
    servers.promote_second().await;
    println!("promoted after {:.1?}", frozen.elapsed());
    clients.until_resumed("frozen primary", &load, frozen).await;
    // A new process finds the second host too.
    let start = Instant::now();
    drop(RoutingCache::start(&servers.both, RoutingOptions::default()).await.unwrap());
    println!("a cache started in {:.1?}", start.elapsed());

    let acknowledged = load.end().await;
    assert!(clients.recorder.shutdown(Duration::from_secs(10)).await.is_empty());
    assert_kept(&servers.urls[1], &acknowledged).await;
    println!("{} records were acknowledged, and none is lost", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_under_load_loses_nothing_that_was_acknowledged() {
    let mut servers = Servers::start().await;
    let clients = Clients::start(&servers).await;
    let load = Load::start(&clients.recorder, clients.version);
    load.until_more().await;
    until_pool_records(&clients.pool, clients.version).await;

    servers.first.stop().unwrap();
    let stopped = Instant::now();
    servers.promote_second().await;
    servers.first.restart_as_standby_of(&servers.second).unwrap();
    println!("switched over after {:.1?}", stopped.elapsed());
    clients.until_resumed("switchover", &load, stopped).await;

    // And back, with the first as the standby that has everything.
    let (second, first) = (&mut connect(&servers.urls[1]).await.unwrap(), &servers.urls[0]);
    until_replayed(second, &mut connect(first).await.unwrap()).await;
    let acknowledged = load.end().await;
    assert!(clients.recorder.shutdown(Duration::from_secs(10)).await.is_empty());
    for url in &servers.urls {
        assert_eq!(is_standby(url).await, url == &servers.urls[0]);
    }
    assert_kept(&servers.urls[1], &acknowledged).await;
    println!("{} records were acknowledged, and none is lost", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_loses_nothing_that_was_acknowledged() {
    let mut servers = Servers::start().await;
    let clients = Clients::start(&servers).await;
    let load = Load::start(&clients.recorder, clients.version);
    load.until_more().await;
    until_pool_records(&clients.pool, clients.version).await;

    servers.first.kill().unwrap();
    let killed = Instant::now();
    servers.promote_second().await;
    println!("promoted after {:.1?}", killed.elapsed());
    clients.until_resumed("killed primary", &load, killed).await;

    let acknowledged = load.end().await;
    assert!(clients.recorder.shutdown(Duration::from_secs(10)).await.is_empty());
    assert_kept(&servers.urls[1], &acknowledged).await;
    println!("{} records were acknowledged, and none is lost", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_that_a_server_became_read_only() {
    let servers = Servers::start().await;
    let clients = Clients::start(&servers).await;
    until_pool_records(&clients.pool, clients.version).await;
    let conn = &mut connect(&servers.urls[0]).await.unwrap();
    raw(conn, "ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    raw(conn, "SELECT pg_reload_conf()").await.unwrap();
    eventually("health says that nothing is written", async || {
        sleep(Duration::from_millis(20)).await;
        !clients.pool.health().await.unwrap().takes_writes
    })
    .await;
    clients.recorder.shutdown(Duration::from_secs(10)).await;
}

async fn is_standby(url: &str) -> bool {
    let conn = &mut connect(url).await.unwrap();
    number(conn, "SELECT pg_is_in_recovery()::int::bigint AS number").await == 1
}
