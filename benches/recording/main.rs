//! What recording costs, each way of the crate's beside tokio-postgres by hand.
//!
//! ```text
//! cargo bench --bench recording
//! cargo bench --bench recording -- --rounds 2
//! cargo bench --bench recording -- --sweep
//! ```
//!
//! `docs/benchmarks.md` says what is held equal and what was seen.

mod database;
mod measure;
mod raw;
mod replay;
mod report;
mod row;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/support/mod.rs"]
mod support;
mod sweep;
#[path = "../../examples/tour/trace.rs"]
mod trace;
mod way;

use clap::Parser;
use model_experiments::{Pool, Recorder, RecorderOptions};

use database::Database;
use measure::Side;
use report::{Target, What};
use way::Way;

/// What reading a trace returns.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// How many rows a statement takes, and how many are recorded in a round.
const BATCHES: [(usize, usize); 4] = [(10, 4_000), (100, 8_000), (1_000, 10_000), (5_000, 10_000)];

/// How many callers the recorder has, how many rows they record in a round, and how many a pool does meanwhile.
const CALLERS: [(usize, usize, usize); 4] =
    [(1, 1_000, 1_000), (8, 3_000, 1_500), (64, 8_000, 2_500), (256, 10_000, 2_500)];

/// How many connections the pool has that stands beside the recorder, unless there are fewer callers.
const POOL: usize = 8;

/// What recording costs, beside tokio-postgres by hand.
#[derive(Parser)]
struct Arguments {
    /// Measure the recorder with other options than its defaults instead.
    #[arg(long)]
    sweep: bool,
    /// How many rounds each side is measured in.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// What Cargo says to a bench that it runs as one.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let Arguments { sweep, rounds, bench } = Arguments::parse();
    // `cargo test` may run benches too, and this one takes minutes.
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

/// Statements of one row and of many, one after the other.
async fn one_connection(database: &Database, setting: &str, rounds: usize) {
    let raw = raw::pool(&database.url(), 1).await;
    let ours = Pool::builder(database.url()).max_size(1).build().unwrap();
    let mut sides = vec![
        Side::new("raw transaction", Way::RawTransaction(raw.clone()), 1, 1, 800),
        Side::new("raw statement", Way::RawStatement(raw.clone()), 1, 1, 1_200),
        Side::new("usage_with_request", Way::Statement(ours.clone()), 1, 1, 1_200),
    ];
    let mut targets = Vec::new();
    for (batch, rows) in BATCHES {
        let [theirs, record_many, copy] =
            ["raw batch", "record_many", "raw COPY"].map(|name| format!("{name} of {batch}"));
        if [100, 1_000].contains(&batch) {
            let target = |theirs: &str, least: f64| Target {
                ours: record_many.clone(),
                theirs: theirs.to_owned(),
                what: What::Throughput(least),
            };
            targets.extend([target(&theirs, 1.0 / 1.10), target("raw transaction", 8.0)]);
        }
        sides.extend([
            Side::new(theirs, Way::RawBatch(raw.clone()), 1, batch, rows),
            Side::new(record_many, Way::Batch(ours.clone()), 1, batch, rows),
            Side::new(copy, Way::RawCopy(raw.clone()), 1, batch, rows),
        ]);
    }
    measure::rounds(database, &mut sides, rounds).await;
    println!("{}\n", report::sides(setting, &sides));
    println!("{}\n", report::targets(setting, &sides, &targets));
}

/// The recorder beside a pool, for callers that each wait for their row.
async fn many_callers(database: &Database, setting: &str, rounds: usize) {
    let recorder = Recorder::start(&database.url(), RecorderOptions::default()).await.unwrap();
    let mut sides = Vec::new();
    for (callers, rows, pooled) in CALLERS {
        // The connections that a caller doesn't need would only be cold when it gets to them.
        let raw = raw::pool(&database.url(), POOL.min(callers)).await;
        let [transactions, statements, ours] =
            ["pooled transactions", "pooled statements", "recorder"]
                .map(|name| format!("{name}, {callers}"));
        sides.extend([
            Side::new(transactions, Way::RawTransaction(raw.clone()), callers, 1, pooled),
            Side::new(statements, Way::RawStatement(raw), callers, 1, pooled),
            Side::new(ours, Way::Recorder(recorder.clone()), callers, 1, rows),
        ]);
    }
    let target = |callers: usize, theirs: &str, what: What| Target {
        ours: format!("recorder, {callers}"),
        theirs: format!("{theirs}, {callers}"),
        what,
    };
    let targets = [
        target(64, "pooled transactions", What::Throughput(3.5)),
        target(64, "pooled statements", What::Throughput(2.5)),
        target(1, "pooled statements", What::Wait(1.1)),
    ];
    measure::rounds(database, &mut sides, rounds).await;
    println!("{}\n", report::sides(setting, &sides));
    println!("{}\n", report::targets(setting, &sides, &targets));
}
