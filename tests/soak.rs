//! Records at full speed for a long time: the rate and the memory stay, and there is no deadlock.
//!
//! ```text
//! cargo test --release --test soak -- --seconds 600
//! ```
//!
//! Limits: `docs/testing.md`.

#[path = "../benches/memory/mod.rs"]
mod memory;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "support/mod.rs"]
mod support;

use clap::Parser;
use memory::{MIB, resident};
use model_experiments::recording::{NewRequest, Outcome, Record, Usage};
use model_experiments::values::{AllocationSubject, VersionId};
use model_experiments::{AsyncPgConnection, Recorder, RecorderOptions, migrations};
use peak_alloc::PeakAlloc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::fixtures::{active, number, raw};
use support::postgres::{Binaries, Server};
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Number of users.
const USERS: u64 = 10_000;

/// Largest ratio of the last quarter's peaks of memory to the second quarter's.
const MAX_MEMORY_RATIO: f64 = 1.25;

/// Smallest ratio of the last quarter's rate to the second quarter's. It is low, because the speed
/// of a shared machine drifts.
const MIN_RATE_RATIO: f64 = 0.5;

#[derive(Parser)]
struct Options {
    /// Duration of the run.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Connections of the recorder.
    #[arg(long, default_value_t = 16)]
    writers: usize,
    /// Tasks that submit records.
    #[arg(long, default_value_t = 16)]
    callers: u64,
    /// Records that each caller submits before it awaits their receipts.
    #[arg(long, default_value_t = 1_024)]
    burst: usize,
    /// Seconds that each line of the output covers.
    #[arg(long, default_value_t = 10)]
    window: u64,
}

/// The measurements of a period.
struct Window {
    /// Acknowledged records per second.
    rate: f64,
    /// Peak of allocated memory, in MiB.
    peak: f64,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let settings = ["shared_buffers=512MB", "max_wal_size=4GB", "checkpoint_timeout=60s"];
    let server = Server::durable(&Binaries::find(|_| {}).unwrap(), &settings).unwrap();
    let connect = support::options(&server.url("postgres"));
    migrations::run(&connect).await.unwrap();
    let conn = &mut connect.connect().await.unwrap();
    let version = active(conn, "partner/foo").await.control_version.id;

    let recorder = RecorderOptions::default().writers(options.writers);
    let recorder = Recorder::start(&connect, recorder).await.unwrap();
    let (stop, recorded) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for caller in 0..options.callers {
        let (recorder, stop, recorded) =
            (recorder.clone(), Arc::clone(&stop), Arc::clone(&recorded));
        callers.spawn(async move {
            for number in (caller..).step_by(options.callers as usize * options.burst) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let mut receipts = Vec::with_capacity(options.burst);
                for number in (number..).step_by(options.callers as usize).take(options.burst) {
                    receipts.push(recorder.submit(record(number, version)).await.unwrap());
                }
                for receipt in receipts {
                    assert_eq!(receipt.await, Ok(Outcome::Recorded));
                    recorded.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let windows = watch(&options, &recorded).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    assert_eq!(recorder.shutdown(Duration::from_secs(60)).await, []);
    assert!(recorder.is_empty());
    compare_quarters(&windows);
    check_database(conn, recorded.load(Ordering::Relaxed)).await;
}

fn record(number: u64, version: VersionId) -> Record {
    let usage = Usage {
        cost: 940,
        input_tokens: 1_200,
        output_tokens: 80,
        provider: Some("openai".to_owned()),
        model: Some("preview-rc1".to_owned()),
        requested_model: Some("partner/preview-foo".to_owned()),
        organization_id: number.is_multiple_of(3).then(|| Uuid::from_u128((number % 100).into())),
        ..Usage::new(format!("user-{}", number.wrapping_mul(7_919) % USERS))
    };
    let request = NewRequest::new(version, AllocationSubject::User);
    Record::new(usage, request.client_request_id(format!("request-{number}")))
}

/// Prints and returns the measurements of each window.
async fn watch(options: &Options, recorded: &AtomicU64) -> Vec<Window> {
    let (start, mut windows) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_secs(options.seconds) {
        let (window_start, before) = (Instant::now(), recorded.load(Ordering::Relaxed));
        ALLOCATOR.reset_peak_usage();
        sleep(Duration::from_secs(options.window)).await;
        let rate = (recorded.load(Ordering::Relaxed) - before) as f64
            / window_start.elapsed().as_secs_f64();
        let peak = ALLOCATOR.peak_usage() as f64 / MIB;
        println!(
            "at {:4.0} s: {rate:7.0} records/s, {peak:6.1} MiB allocated, {:6.1} MiB resident",
            start.elapsed().as_secs_f64(),
            resident()
        );
        windows.push(Window { rate, peak });
    }
    windows
}

/// Compares the last quarter with the second. The first one is a warm-up.
fn compare_quarters(windows: &[Window]) {
    let quarter = windows.len() / 4;
    assert!(quarter > 0, "the run needs at least four windows");
    let mean = |windows: &[Window], of: fn(&Window) -> f64| {
        windows.iter().map(of).sum::<f64>() / windows.len() as f64
    };
    let (second, last) = (&windows[quarter..2 * quarter], &windows[windows.len() - quarter..]);
    let rate = |windows| mean(windows, |window| window.rate);
    let peak = |windows| mean(windows, |window| window.peak);
    println!(
        "second and last quarter: {:.0} and {:.0} records/s, {:.1} and {:.1} MiB allocated",
        rate(second),
        rate(last),
        peak(second),
        peak(last)
    );
    assert!(rate(last) > MIN_RATE_RATIO * rate(second), "the rate falls");
    assert!(peak(last) < MAX_MEMORY_RATIO * peak(second), "the memory grows");
}

/// Checks the numbers of stored rows and of deadlocks.
async fn check_database(conn: &mut AsyncPgConnection, recorded: u64) {
    let of = |table: &str| format!("SELECT count(*) AS number FROM {table}");
    raw(conn, "SET statement_timeout = 0").await.unwrap();
    let usages = number(conn, &of("microdollar_usage")).await;
    let requests = number(conn, &of("model_experiment_request")).await;
    let size = "SELECT pg_database_size(current_database()) AS number";
    let size = number(conn, size).await as f64 / MIB;
    let deadlocks =
        "SELECT deadlocks AS number FROM pg_stat_database WHERE datname = current_database()";
    let deadlocks = number(conn, deadlocks).await;
    println!(
        "{recorded} recorded, {usages} usages, {requests} requests, {size:.0} MiB, {deadlocks} deadlocks"
    );
    assert_eq!((usages, requests), (recorded as i64, recorded as i64));
    assert_eq!(deadlocks, 0);
}
