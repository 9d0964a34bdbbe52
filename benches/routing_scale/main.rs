//! What a routing cache takes with 10,000 experiments of four variants: memory, its start, asking for changes, and
//! how soon a change is served.
//!
//! ```text
//! cargo bench --bench routing_scale
//! ```
//!
//! `docs/benchmarks.md` says what was seen.

#[path = "../seed/mod.rs"]
mod seed;
mod spread;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/support/mod.rs"]
mod support;

use diesel_async::AsyncPgConnection;
use model_experiments::experiments::{self, NewVersion};
use model_experiments::routing::{Route, Served};
use model_experiments::{RoutingCache, RoutingOptions};
use peak_alloc::PeakAlloc;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use seed::{Family, user};
use spread::Spread;
use support::TestDatabase;
use support::fixtures::{API_KEY, key, number};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The family of all experiments.
const FAMILY: &str = "partner";

const MIB: f64 = (1 << 20) as f64;

#[tokio::main]
async fn main() {
    // `cargo test` may run benches too, and this one takes minutes.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (few, many) = (active(10).await, active(10_000).await);
    println!("{} bytes of upstreams", bytes_of_upstreams(&many).await);
    for _ in 0..5 {
        start(&many).await;
    }
    poll(&many).await;
    for (db, experiments) in [(&few, 10), (&many, 10_000)] {
        let swaps = swap(db, 1, experiments, 500).await;
        println!("from commit to pick, {experiments} experiments: {swaps}");
    }
    let swaps = swap(&many, 8, 10_000, 1_000).await;
    println!("from commit to pick in 8 caches, 10000 experiments: {swaps}");
}

async fn active(experiments: usize) -> TestDatabase {
    seed::database(&[Family { name: FAMILY, status: "active", experiments, versions: 1 }]).await
}

async fn bytes_of_upstreams(db: &TestDatabase) -> i64 {
    let sql = "SELECT sum(length(upstream::text))::bigint AS number FROM model_experiment_variant_version";
    number(&mut db.connect().await, sql).await
}

/// What starting a cache takes.
async fn start(db: &TestDatabase) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let start = Instant::now();
    let cache = RoutingCache::start(&db.url(), RoutingOptions::default()).await.unwrap();
    let took = start.elapsed();
    let since = |bytes: usize| bytes.saturating_sub(before) as f64 / MIB;
    println!(
        "start: {took:.2?}, holds {:.1} MiB, {:.1} MiB at most meanwhile, {:.1} MiB resident",
        since(ALLOCATOR.current_usage()),
        since(ALLOCATOR.peak_usage()),
        resident(),
    );
    cache.shutdown().await;
}

/// What the system says that this process holds, in MiB.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    line.and_then(|kib| kib.trim().parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

/// What asking takes when nothing has changed.
async fn poll(db: &TestDatabase) {
    let options = RoutingOptions::default().poll_interval(Duration::from_millis(100));
    let cache = RoutingCache::start(&db.url(), options).await.unwrap();
    let (mut polls, mut before) = (Spread::default(), cache.age());
    while polls.len() < 50 {
        let age = cache.age();
        // It falls when a poll ends, to how long ago that poll began.
        if age < before {
            polls.push(age);
        }
        before = age;
        thread::sleep(Duration::from_micros(50));
    }
    println!("poll: {polls}");
    cache.shutdown().await;
    let sql = include_str!("../../tests/queries/operations.routing.outlines.sql");
    println!("poll, on the server: {}", execution_time(db, sql).await);
}

/// How long the server takes for a query, by its own clock.
async fn execution_time(db: &TestDatabase, sql: &str) -> String {
    let sql = ["$1", "$2", "$3"].iter().fold(sql.to_owned(), |sql, n| sql.replace(n, "'epoch'"));
    let (client, connection) = tokio_postgres::connect(&db.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    // As on the connection of a cache.
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

/// How long after its commit a published version is served by all of `caches` caches, which hear of it by its
/// announcement alone; `swaps` times.
async fn swap(db: &TestDatabase, caches: usize, experiments: usize, swaps: usize) -> Spread {
    let hour = Duration::from_secs(3_600);
    let options = RoutingOptions::default().poll_interval(hour).max_staleness(2 * hour);
    let mut started = Vec::new();
    for _ in 0..caches {
        started.push(RoutingCache::start(&db.url(), options.clone()).await.unwrap());
    }
    let conn = &mut db.connect().await;
    let mut spread = Spread::default();
    for at in 0..swaps {
        let model = format!("{FAMILY}/{}", at * 7_919 % experiments + 1);
        spread.push(publish(conn, &started, &model).await);
    }
    for cache in started {
        cache.shutdown().await;
    }
    spread
}

async fn publish(conn: &mut AsyncPgConnection, caches: &[RoutingCache], model: &str) -> Duration {
    let (upstream, key) = (seed::upstream(), key(API_KEY));
    let variant = served(&caches[0], model).variant;
    let published =
        experiments::publish(conn, variant, NewVersion::with_key(&upstream, &key)).await.unwrap();
    let committed = Instant::now();
    while caches.iter().any(|cache| served(cache, model).version != published.id) {
        thread::yield_now();
    }
    committed.elapsed()
}

fn served(cache: &RoutingCache, model: &str) -> Served {
    match cache.pick(model, user("user-1")) {
        Route::Serve(served) => served,
        route => panic!("{route:?}"),
    }
}
