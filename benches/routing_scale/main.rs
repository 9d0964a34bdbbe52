//! A routing cache with 10,000 experiments of four variants: its memory, its start, its polls, and
//! the delay until a change is served.
//!
//! ```text
//! cargo bench --bench routing_scale
//! ```
//!
//! Results: `docs/benchmarks.md`.

#[path = "../memory/mod.rs"]
mod memory;
mod percentiles;
#[path = "../seed/mod.rs"]
mod seed;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/support/mod.rs"]
mod support;

use model_experiments::experiments::{self, NewVersion};
use model_experiments::routing::{Route, Served, Subject};
use model_experiments::{AsyncPgConnection, RoutingCache, RoutingOptions};
use peak_alloc::PeakAlloc;
use std::thread;
use std::time::{Duration, Instant};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use memory::{MIB, resident};
use percentiles::Percentiles;
use seed::Family;
use support::TestDatabase;
use support::fixtures::{API_KEY, key, number};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The family that all experiments belong to.
const FAMILY: &str = "partner";

#[tokio::main]
async fn main() {
    // `cargo test` may run benches too, but this one takes minutes.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (few, many) = (active(10).await, active(10_000).await);
    println!("upstreams: {} bytes", bytes_of_upstreams(&many).await);
    for _ in 0..5 {
        start(&many).await;
    }
    poll(&many).await;
    for (db, experiments) in [(&few, 10), (&many, 10_000)] {
        let delays = swap(db, 1, experiments, 500).await;
        println!("commit to pick, {experiments} experiments: {delays}");
    }
    let delays = swap(&many, 8, 10_000, 1_000).await;
    println!("commit to pick in 8 caches, 10000 experiments: {delays}");
}

async fn active(experiments: usize) -> TestDatabase {
    seed::database(&[Family { name: FAMILY, status: "active", experiments, versions: 1 }]).await
}

async fn bytes_of_upstreams(db: &TestDatabase) -> i64 {
    let sql = "SELECT sum(length(upstream::text))::bigint AS number
        FROM model_experiment_variant_version";
    number(&mut db.connect().await, sql).await
}

/// Measures the start of a cache: its time and memory.
async fn start(db: &TestDatabase) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let start = Instant::now();
    let cache = RoutingCache::start(&db.options(), RoutingOptions::default()).await.unwrap();
    let elapsed = start.elapsed();
    let since = |bytes: usize| bytes.saturating_sub(before) as f64 / MIB;
    println!(
        "start: {elapsed:.2?}, {:.1} MiB held, {:.1} MiB at peak, {:.1} MiB resident",
        since(ALLOCATOR.current_usage()),
        since(ALLOCATOR.peak_usage()),
        resident(),
    );
    cache.shutdown().await;
}

/// Measures polls that find no change.
async fn poll(db: &TestDatabase) {
    let options = RoutingOptions::default().poll_interval(Duration::from_millis(100));
    let cache = RoutingCache::start(&db.options(), options).await.unwrap();
    let (mut polls, mut before) = (Percentiles::default(), cache.age());
    while polls.len() < 50 {
        let age = cache.age();
        // The age falls when a poll ends, to the time since that poll started.
        if age < before {
            polls.push(age);
        }
        before = age;
        thread::sleep(Duration::from_micros(50));
    }
    println!("poll: {polls}");
    cache.shutdown().await;
    let sql = include_str!("../../tests/queries/routing.query.list_fingerprints_query.sql");
    println!("poll, on the server: {}", execution_time(db, sql).await);
}

/// The server's own measurement of a query's execution.
async fn execution_time(db: &TestDatabase, sql: &str) -> String {
    // The longest key, and the earliest instant.
    let sql = sql.replace("$1", "131072");
    let sql = ["$2", "$3", "$4"].iter().fold(sql, |sql, n| sql.replace(n, "'epoch'"));
    let (client, connection) = tokio_postgres::connect(&db.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    // A cache's connection turns JIT off, too.
    let explain = format!("SET jit = off; EXPLAIN (ANALYZE, TIMING OFF) {sql}");
    let plan = client.simple_query(&explain).await.unwrap();
    let line = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            row.get(0)?.strip_prefix("Execution Time: ").map(str::to_owned)
        }
        _ => None,
    };
    plan.iter().find_map(line).unwrap()
}

/// Measures `swaps` times how long after its commit all of `caches` caches serve a new version.
///
/// The caches learn of it only from its notification.
async fn swap(db: &TestDatabase, caches: usize, experiments: usize, swaps: usize) -> Percentiles {
    let hour = Duration::from_secs(3_600);
    let options = RoutingOptions::default().poll_interval(hour).max_staleness(2 * hour);
    let mut started = Vec::new();
    for _ in 0..caches {
        started.push(RoutingCache::start(&db.options(), options.clone()).await.unwrap());
    }
    let conn = &mut db.connect().await;
    let mut delays = Percentiles::default();
    for at in 0..swaps {
        let model = format!("{FAMILY}/{}", at * 7_919 % experiments + 1);
        delays.push(publish(conn, &started, &model).await);
    }
    for cache in started {
        cache.shutdown().await;
    }
    delays
}

/// Publishes a version for `model`, and returns the time from its commit until all caches serve it.
async fn publish(conn: &mut AsyncPgConnection, caches: &[RoutingCache], model: &str) -> Duration {
    let (upstream, key) = (seed::upstream(), key(API_KEY));
    let variant = served(&caches[0], model).variant;
    let version = NewVersion::with_key(&upstream, &key);
    let published = experiments::publish(conn, variant, version).await.unwrap();
    let committed = Instant::now();
    while caches.iter().any(|cache| served(cache, model).version != published.id) {
        thread::yield_now();
    }
    committed.elapsed()
}

fn served(cache: &RoutingCache, model: &str) -> Served {
    match cache.pick(model, Subject::user("user-1")) {
        Route::Serve(served) => served,
        route => panic!("{route:?}"),
    }
}
