//! Cost of recording: each path of the crate, compared with tokio-postgres.
//!
//! ```text
//! cargo bench --bench recording
//! cargo bench --bench recording -- --rounds 2
//! cargo bench --bench recording -- --sweep
//! ```
//!
//! Conditions and results: `docs/benchmarks.md`.

mod database;
mod measure;
mod path;
#[path = "../../examples/shared/price.rs"]
mod price;
mod raw;
mod record;
mod replay;
mod report;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/support/mod.rs"]
mod support;
mod sweep;
#[path = "../../examples/tour/trace.rs"]
mod trace;

use clap::Parser;
use model_experiments::{Pool, PoolOptions, Recorder, RecorderOptions};

use database::Database;
use measure::{Load, Scenario};
use path::Path;
use report::{Bound, Target};

/// The result of reading a trace.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The loads of paths that write many records by one statement.
const BATCHES: [Load; 4] = [
    Load { callers: 1, batch: 10, records: 4_000 },
    Load { callers: 1, batch: 100, records: 8_000 },
    Load { callers: 1, batch: 1_000, records: 10_000 },
    Load { callers: 1, batch: 5_000, records: 10_000 },
];

/// The sizes of a batch whose ratio has a target.
const TARGET_BATCHES: [usize; 2] = [100, 1_000];

/// The loads of the recorder, and how many records the slower pool writes in a round.
const CALLERS: [(Load, usize); 4] = [
    (Load { callers: 1, batch: 1, records: 1_000 }, 1_000),
    (Load { callers: 8, batch: 1, records: 3_000 }, 1_500),
    (Load { callers: 64, batch: 1, records: 8_000 }, 2_500),
    (Load { callers: 256, batch: 1, records: 10_000 }, 2_500),
];

/// Connections of the pool that the recorder is compared with, unless there are fewer callers.
const POOL: usize = 8;

/// Measures recording, compared with tokio-postgres.
#[derive(Parser)]
struct Arguments {
    /// Measure the recorder with other options than its defaults instead.
    #[arg(long)]
    sweep: bool,
    /// Number of rounds.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Passed by Cargo to a bench that it runs as a bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let Arguments { sweep, rounds, bench } = Arguments::parse();
    // `cargo test` may run benches too, but this one takes minutes.
    if !bench {
        return;
    }
    let database = Database::new().await;
    if sweep {
        return sweep::sweep(&database, rounds).await;
    }
    for setting in ["on", "off"] {
        database.set_synchronous_commit(setting).await;
        one_connection(&database, setting, rounds).await;
        many_callers(&database, setting, rounds).await;
    }
    database.set_synchronous_commit("on").await;
    replay::replay(&database).await;
}

/// Measures statements of one and of many records, one after the other on one connection.
async fn one_connection(database: &Database, setting: &str, rounds: usize) {
    let raw = raw::pool(&database.url(), 1).await;
    let ours = Pool::new(database.options(), PoolOptions::default().max_size(1)).unwrap();
    let single = |records| Load { callers: 1, batch: 1, records };
    let mut scenarios = vec![
        Scenario::new("raw transaction", Path::RawTransaction(raw.clone()), single(800)),
        Scenario::new("raw statement", Path::RawStatement(raw.clone()), single(1_200)),
        Scenario::new("record::one", Path::One(ours.clone()), single(1_200)),
    ];
    let mut targets = Vec::new();
    for load in BATCHES {
        let batch = load.batch;
        let (raw_batch, many) =
            (format!("raw batch of {batch}"), format!("record::many of {batch}"));
        if TARGET_BATCHES.contains(&batch) {
            let target = |baseline: &str, min: f64| Target {
                ours: many.clone(),
                baseline: baseline.to_owned(),
                bound: Bound::MinThroughput(min),
            };
            targets.extend([target(&raw_batch, 1.0 / 1.10), target("raw transaction", 8.0)]);
        }
        let raw_copy = format!("raw COPY of {batch}");
        scenarios.extend([
            Scenario::new(raw_batch, Path::RawBatch(raw.clone()), load),
            Scenario::new(many, Path::Many(ours.clone()), load),
            Scenario::new(raw_copy, Path::RawCopy(raw.clone()), load),
        ]);
    }
    measure::rounds(database, &mut scenarios, rounds).await;
    println!("{}\n", report::scenarios(setting, &scenarios));
    println!("{}\n", report::targets(setting, &scenarios, &targets));
}

/// Measures the recorder and a pool, with callers that each wait for their record.
async fn many_callers(database: &Database, setting: &str, rounds: usize) {
    let recorder = Recorder::start(&database.options(), RecorderOptions::default()).await.unwrap();
    let mut scenarios = Vec::new();
    for (load, pooled_records) in CALLERS {
        let callers = load.callers;
        let pooled = Load { records: pooled_records, ..load };
        // A connection that no caller needs would be cold when it is used.
        let raw = raw::pool(&database.url(), POOL.min(callers)).await;
        let transactions = format!("pooled transactions, {callers}");
        let statements = format!("pooled statements, {callers}");
        let ours = format!("recorder, {callers}");
        scenarios.extend([
            Scenario::new(transactions, Path::RawTransaction(raw.clone()), pooled),
            Scenario::new(statements, Path::RawStatement(raw), pooled),
            Scenario::new(ours, Path::Recorder(recorder.clone()), load),
        ]);
    }
    let target = |callers: usize, baseline: &str, bound: Bound| Target {
        ours: format!("recorder, {callers}"),
        baseline: format!("{baseline}, {callers}"),
        bound,
    };
    let targets = [
        target(64, "pooled transactions", Bound::MinThroughput(3.5)),
        target(64, "pooled statements", Bound::MinThroughput(2.5)),
        target(1, "pooled statements", Bound::MaxWait(1.1)),
    ];
    measure::rounds(database, &mut scenarios, rounds).await;
    println!("{}\n", report::scenarios(setting, &scenarios));
    println!("{}\n", report::targets(setting, &scenarios, &targets));
}
