//! Floods the notification channel: the memory of a routing cache stays, and it sees changes in
//! time.
//!
//! ```text
//! cargo test --release --test flood -- --seconds 60
//! ```
//!
//! The server's own processes make the flood, so that this process holds only what the cache does.

#[path = "../benches/memory/mod.rs"]
mod memory;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "support/mod.rs"]
mod support;

use clap::Parser;
use memory::{MIB, resident};
use model_experiments::routing::{Route, Subject};
use model_experiments::{ConnectOptions, RoutingCache, RoutingOptions, experiments, migrations};
use peak_alloc::PeakAlloc;
use std::time::{Duration, Instant};
use support::fixtures::{active, raw};
use support::postgres::{Binaries, Server};
use tokio::task::JoinSet;
use tokio::time::sleep;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The payloads of each flooding connection in turn, by the number `n`: junk, ids that aren't
/// routed, the longest of them, and ids that are.
const PAYLOADS: [&str; 4] = [
    "rpad(n::text, 7999, 'x')",
    "'flood/' || n",
    "rpad('flood/' || n || '/', 200, 'x')",
    "'partner/' || n % 100",
];

/// Most memory that the flood may add.
const MAX_MIB: f64 = 64.0;

/// Longest time beyond a poll interval until a change is seen.
const MAX_DELAY: Duration = Duration::from_secs(1);

#[derive(Parser)]
struct Options {
    /// Duration of the flood.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Connections that flood.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Seconds between polls.
    #[arg(long, default_value_t = 5)]
    poll_interval: u64,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let server = Server::durable(&Binaries::find(|_| {}).unwrap(), &[]).unwrap();
    let connect = support::options(&server.url("postgres")).statement_timeout(Duration::ZERO);
    migrations::run(&connect).await.unwrap();
    let conn = &mut connect.connect().await.unwrap();
    for model in 0..100 {
        active(conn, &format!("partner/{model}")).await;
    }
    let paused = active(conn, "partner/paused").await.experiment.id;
    let poll_interval = Duration::from_secs(options.poll_interval);
    let routing = RoutingOptions::default().poll_interval(poll_interval);
    let cache = RoutingCache::start(&connect, routing).await.unwrap();

    ALLOCATOR.reset_peak_usage();
    let (held, resident_before) = (ALLOCATOR.current_usage() as f64 / MIB, resident());
    let mut flooders = JoinSet::new();
    for at in 0..options.connections {
        let payload = PAYLOADS[at % PAYLOADS.len()];
        flooders.spawn(flood(connect.clone(), payload, options.seconds));
    }
    let (start, mut longest) = (Instant::now(), Duration::ZERO);
    while start.elapsed() < Duration::from_secs(options.seconds) {
        for is_paused in [true, false] {
            if is_paused {
                experiments::pause(conn, paused).await.unwrap();
            } else {
                experiments::activate(conn, paused).await.unwrap();
            }
            longest = longest.max(until(&cache, is_paused).await);
        }
        println!(
            "at {:3.0} s: changes seen within {longest:.2?}, {:.1} MiB allocated at peak, {:.1} MiB resident",
            start.elapsed().as_secs_f64(),
            ALLOCATOR.peak_usage() as f64 / MIB,
            resident(),
        );
        sleep(Duration::from_secs(2)).await;
    }
    let mut sent = 0;
    while let Some(flooder) = flooders.join_next().await {
        sent += flooder.unwrap();
    }
    let added = ALLOCATOR.peak_usage() as f64 / MIB - held;
    let resident = resident() - resident_before;
    println!(
        "{sent} notifications; {added:.1} MiB allocated at peak, {resident:.1} MiB resident more than before"
    );
    assert!(added < MAX_MIB && (resident < MAX_MIB || resident.is_nan()), "the memory grows");
    assert!(longest < poll_interval + MAX_DELAY, "a change was seen after {longest:?}");
}

/// Notifies without pause. Returns how often.
async fn flood(connect: ConnectOptions, payload: &str, seconds: u64) -> i64 {
    let conn = &mut connect.connect().await.unwrap();
    let sql = format!(
        "DO $$ DECLARE n bigint := 0; over timestamptz := clock_timestamp() + interval '{seconds} s';
         BEGIN
            WHILE clock_timestamp() < over LOOP
                FOR i IN 1..100 LOOP
                    n := n + 1;
                    PERFORM pg_notify('model_experiment_routing', {payload});
                END LOOP;
                COMMIT;
            END LOOP;
            PERFORM set_config('flood.sent', n::text, false);
         END $$"
    );
    raw(conn, &sql).await.unwrap();
    support::fixtures::setting(conn, "flood.sent").await.parse().unwrap()
}

/// Waits until the cache knows whether the experiment is paused. Returns how long it took.
async fn until(cache: &RoutingCache, is_paused: bool) -> Duration {
    let start = Instant::now();
    while (cache.pick("partner/paused", Subject::user("user-1")) == Route::Paused) != is_paused {
        assert!(start.elapsed() < Duration::from_secs(60), "a change was never seen");
        sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}
