//! Recording for a long time as fast as the machine lets it: the rate stays, memory stays, and
//! nobody deadlocks.
//!
//! ```text
//! cargo test --release --test soak -- --seconds 600
//! ```
//!
//! `docs/testing.md` says what was seen.

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "support/mod.rs"]
mod support;

use clap::Parser;
use diesel_async::AsyncPgConnection;
use model_experiments::recording::{NewRequest, Outcome, Record, Usage};
use model_experiments::values::{AllocationSubject, VersionId};
use model_experiments::{Recorder, RecorderOptions, migrations};
use peak_alloc::PeakAlloc;
use std::fs;
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

/// How many users there are.
const USERS: u64 = 10_000;

/// How much a peak of memory may differ from another of the same load.
const MEMORY: f64 = 1.25;

/// The least share of the rate that has to be left. It is for what grows without a bound: a machine
/// that others use drifts by as much as this.
const RATE: f64 = 0.5;

const MIB: f64 = (1 << 20) as f64;

#[derive(Parser)]
struct Options {
    /// For how long to record.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Connections that write.
    #[arg(long, default_value_t = 16)]
    writers: usize,
    /// Tasks that record.
    #[arg(long, default_value_t = 16)]
    callers: u64,
    /// How many records each of them has under way.
    #[arg(long, default_value_t = 1_024)]
    each: usize,
    /// How long a line of the output is about, in seconds.
    #[arg(long, default_value_t = 10)]
    window: u64,
}

/// What was seen in a stretch of time.
struct Window {
    /// Records acknowledged in a second.
    rate: f64,
    /// The most memory that was allocated, in MiB.
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
            for number in (caller..).step_by(options.callers as usize * options.each) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let mut receipts = Vec::with_capacity(options.each);
                for number in (number..).step_by(options.callers as usize).take(options.each) {
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
    judge(&windows);
    account(conn, recorded.load(Ordering::Relaxed)).await;
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

/// Prints and returns what is seen in each window.
async fn watch(options: &Options, recorded: &AtomicU64) -> Vec<Window> {
    let (start, mut windows) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_secs(options.seconds) {
        let (began, before) = (Instant::now(), recorded.load(Ordering::Relaxed));
        ALLOCATOR.reset_peak_usage();
        sleep(Duration::from_secs(options.window)).await;
        let rate =
            (recorded.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
        let peak = ALLOCATOR.peak_usage() as f64 / MIB;
        println!(
            "at {:4.0} s: {rate:7.0} records/s, {peak:6.1} MiB allocated at most, {:6.1} MiB resident",
            start.elapsed().as_secs_f64(),
            resident()
        );
        windows.push(Window { rate, peak });
    }
    windows
}

/// Compares the last quarter with the second: the first warms up.
fn judge(windows: &[Window]) {
    let quarter = windows.len() / 4;
    assert!(quarter > 0, "it takes four windows to tell");
    let mean = |windows: &[Window], of: fn(&Window) -> f64| {
        windows.iter().map(of).sum::<f64>() / windows.len() as f64
    };
    let (second, last) = (&windows[quarter..2 * quarter], &windows[windows.len() - quarter..]);
    let rates = [second, last].map(|windows| mean(windows, |window| window.rate));
    let peaks = [second, last].map(|windows| mean(windows, |window| window.peak));
    println!("from the second quarter to the last: {rates:.0?} records/s, {peaks:.1?} MiB at most");
    assert!(rates[1] > RATE * rates[0], "it got slower");
    assert!(peaks[1] < MEMORY * peaks[0], "it holds more and more");
}

/// What the database has of it.
async fn account(conn: &mut AsyncPgConnection, recorded: u64) {
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
    assert_eq!([usages, requests], [recorded as i64; 2]);
    assert_eq!(deadlocks, 0);
}

/// What the system says that this process holds, in MiB.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    line.and_then(|kib| kib.trim().parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}
