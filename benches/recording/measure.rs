//! Measurements of scenarios in turn, so that the machine's drift affects all of them.

use statrs::statistics::{Data, OrderStatistics};
use std::iter;
use std::time::Instant;
use tokio::task::JoinSet;

use crate::database::{Database, Totals};
use crate::path::Path;
use crate::record::PreparedRecord;
use crate::trace;

/// Executions of a statement before it is measured. PostgreSQL plans the first five anew.
const WARM_UP: usize = 6;

/// A path, the load on it, and the measurements.
pub struct Scenario {
    pub name: String,
    pub path: Path,
    pub load: Load,
    /// One run per round.
    pub runs: Vec<Run>,
}

/// The load on a path in one round.
#[derive(Clone, Copy)]
pub struct Load {
    /// Callers at the same time.
    pub callers: usize,
    /// Records that a caller submits at once.
    pub batch: usize,
    /// Records of all callers together.
    pub records: usize,
}

/// The measurements of one run.
pub struct Run {
    /// Records per second.
    pub throughput: f64,
    /// Median of the callers' waits, in milliseconds.
    pub p50: f64,
    /// 99th percentile of the callers' waits, in milliseconds.
    pub p99: f64,
}

impl Scenario {
    pub fn new(name: impl Into<String>, path: Path, load: Load) -> Self {
        Self { name: name.into(), path, load, runs: Vec::new() }
    }

    async fn run(&self, database: &Database, records: usize) -> Run {
        let requests = trace::generate(records);
        let record = |request| PreparedRecord::new(&database.versions, request);
        let records = requests.iter().map(record).collect();
        run(database, &self.path, self.load.callers, self.load.batch, records).await
    }
}

/// Measures each scenario once per round, after a warm-up round, and ends their paths.
///
/// Every other round runs backwards.
pub async fn rounds(database: &Database, scenarios: &mut [Scenario], rounds: usize) {
    for scenario in &*scenarios {
        let Load { records, batch, .. } = scenario.load;
        scenario.run(database, records.max(WARM_UP * batch)).await;
    }
    for round in 0..rounds {
        for at in 0..scenarios.len() {
            let at = if round % 2 == 0 { at } else { scenarios.len() - 1 - at };
            let scenario = &mut scenarios[at];
            let run = scenario.run(database, scenario.load.records).await;
            scenario.runs.push(run);
        }
    }
    for scenario in scenarios {
        scenario.path.end().await;
    }
}

/// Writes `records` into empty tables, and checks that they are all there.
pub async fn run(
    database: &Database,
    path: &Path,
    callers: usize,
    batch: usize,
    records: Vec<PreparedRecord>,
) -> Run {
    database.clear().await;
    let usages = records.iter().map(PreparedRecord::usage);
    let tokens = usages.map(|usage| usage.input_tokens + usage.output_tokens).sum();
    let expected = Totals { usages: records.len(), requests: records.len(), tokens };

    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for batches in batches_per_caller(records, callers, batch) {
        tasks.spawn(record_in_turn(path.clone(), batches));
    }
    let waits = tasks.join_all().await.concat();
    let seconds = start.elapsed().as_secs_f64();

    assert_eq!(database.totals().await, expected);
    let mut waits = Data::new(waits);
    Run {
        throughput: expected.usages as f64 / seconds,
        p50: waits.percentile(50),
        p99: waits.percentile(99),
    }
}

/// Deals the records out to the callers, in batches.
fn batches_per_caller(
    records: Vec<PreparedRecord>,
    callers: usize,
    batch: usize,
) -> Vec<Vec<Vec<PreparedRecord>>> {
    let mut records = records.into_iter();
    let batches = iter::from_fn(|| {
        let batch: Vec<_> = records.by_ref().take(batch).collect();
        (!batch.is_empty()).then_some(batch)
    });
    let mut per_caller: Vec<_> = iter::repeat_with(Vec::new).take(callers).collect();
    for (at, batch) in batches.enumerate() {
        per_caller[at % callers].push(batch);
    }
    per_caller
}

/// Records one batch after the other, and returns how many milliseconds each took.
async fn record_in_turn(path: Path, batches: Vec<Vec<PreparedRecord>>) -> Vec<f64> {
    let mut waits = Vec::with_capacity(batches.len());
    for batch in batches {
        let start = Instant::now();
        path.record(batch).await;
        waits.push(start.elapsed().as_secs_f64() * 1e3);
    }
    waits
}
