//! Measuring ways to record in turn, so that the machine's drift falls on all of them.

use statrs::statistics::{Data, OrderStatistics};
use std::iter;
use std::time::Instant;
use tokio::task::JoinSet;

use crate::database::{Database, Totals};
use crate::row::Row;
use crate::trace;
use crate::way::Way;

/// How often a statement is executed before it is measured: PostgreSQL plans the first five executions anew.
const WARM_UP: usize = 6;

/// A way to record, and how it is used.
pub struct Side {
    pub name: String,
    pub way: Way,
    pub callers: usize,
    /// How many rows a caller hands over at once.
    pub batch: usize,
    /// How many rows are recorded in a round.
    pub rows: usize,
    /// A run for each round.
    pub runs: Vec<Run>,
}

/// What was seen of some rows that were recorded one way.
pub struct Run {
    /// Pairs of a usage and a request in a second.
    pub throughput: f64,
    /// Milliseconds that callers waited, the median and the 99th percentile.
    pub p50: f64,
    pub p99: f64,
}

impl Side {
    pub fn new(
        name: impl Into<String>,
        way: Way,
        callers: usize,
        batch: usize,
        rows: usize,
    ) -> Self {
        Self { name: name.into(), way, callers, batch, rows, runs: Vec::new() }
    }

    async fn run(&self, database: &Database, rows: usize) -> Run {
        let requests = trace::generate(rows);
        let rows = requests.iter().map(|request| Row::new(&database.versions, request)).collect();
        run(database, &self.way, self.callers, self.batch, rows).await
    }
}

/// Measures each side once a round, after a round that only warms up, and ends them. Every other round goes backwards.
pub async fn rounds(database: &Database, sides: &mut [Side], rounds: usize) {
    for side in &*sides {
        side.run(database, side.rows.max(WARM_UP * side.batch)).await;
    }
    for round in 0..rounds {
        for at in 0..sides.len() {
            let at = if round % 2 == 0 { at } else { sides.len() - 1 - at };
            let run = sides[at].run(database, sides[at].rows).await;
            sides[at].runs.push(run);
        }
    }
    for side in sides {
        side.way.end().await;
    }
}

/// Records `rows` in empty tables, and checks that they are there.
pub async fn run(
    database: &Database,
    way: &Way,
    callers: usize,
    batch: usize,
    rows: Vec<Row>,
) -> Run {
    database.clear().await;
    let tokens = rows.iter().map(|row| row.usage().input_tokens + row.usage().output_tokens).sum();
    let expected = Totals { usages: rows.len(), requests: rows.len(), tokens };

    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for share in shares(rows, callers, batch) {
        tasks.spawn(caller(way.clone(), share));
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

/// The batches that each caller records.
fn shares(rows: Vec<Row>, callers: usize, batch: usize) -> Vec<Vec<Vec<Row>>> {
    let mut rows = rows.into_iter();
    let batches = iter::from_fn(|| {
        let batch: Vec<_> = rows.by_ref().take(batch).collect();
        (!batch.is_empty()).then_some(batch)
    });
    let mut shares: Vec<_> = iter::repeat_with(Vec::new).take(callers).collect();
    for (at, batch) in batches.enumerate() {
        shares[at % callers].push(batch);
    }
    shares
}

/// Records one batch after the other, and tells how many milliseconds each took.
async fn caller(way: Way, batches: Vec<Vec<Row>>) -> Vec<f64> {
    let mut waits = Vec::with_capacity(batches.len());
    for batch in batches {
        let start = Instant::now();
        way.record(batch).await;
        waits.push(start.elapsed().as_secs_f64() * 1e3);
    }
    waits
}
