//! Which options of the recorder are good defaults.

use comfy_table::Table;
use model_experiments::{Recorder, RecorderOptions};
use std::time::Duration;

use crate::database::Database;
use crate::measure::{self, Side};
use crate::report::{self, Spread};
use crate::way::Way;

const WRITERS: [usize; 3] = [1, 2, 4];
const MAX_BATCHES: [usize; 5] = [128, 256, 512, 1_000, 2_000];
const MAX_DELAYS: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(5)];

/// How many callers, and how many rows they record in a round. Only the last can fill any batch.
const CALLERS: [(usize, usize); 4] = [(1, 100), (64, 5_000), (256, 8_000), (4_096, 12_000)];

/// The side of the defaults.
const DEFAULTS: &str = "the defaults";

/// Measures the defaults and every combination.
pub async fn sweep(database: &Database, rounds: usize) {
    let mut all = vec![(DEFAULTS.to_owned(), RecorderOptions::default())];
    for writers in WRITERS {
        for max_batch in MAX_BATCHES {
            for max_delay in MAX_DELAYS {
                let options = RecorderOptions::default().writers(writers);
                let options = options.max_batch(max_batch).max_delay(max_delay);
                all.push((format!("{writers} × {max_batch}, {max_delay:?}"), options));
            }
        }
    }
    let mut ways = Vec::new();
    for (name, options) in all {
        let recorder = Recorder::start(&database.url(), options).await.unwrap();
        ways.push((name, Way::Recorder(recorder)));
    }
    let mut sides = Vec::new();
    for (callers, rows) in CALLERS {
        for (name, way) in &ways {
            sides.push(Side::new(name, way.clone(), callers, 1, rows));
        }
    }
    measure::rounds(database, &mut sides, rounds).await;
    for sides in sides.chunk_by(|side, next| side.callers == next.callers) {
        println!("{}\n", table(sides));
    }
}

/// The sides of as many callers, beside the defaults.
fn table(sides: &[Side]) -> Table {
    let defaults =
        sides.iter().find(|side| side.name == DEFAULTS).expect("the defaults are a side");
    let callers = format!("{} callers", defaults.callers);
    let mut table = report::table([
        &callers,
        "pairs/s",
        "beside the defaults",
        "waits, p50 in ms",
        "waits, p99 in ms",
    ]);
    for side in sides {
        table.add_row([
            side.name.clone(),
            format!("{:.0}", Spread::of(side, |run| run.throughput)),
            format!("{:.2}", Spread::of_ratio(side, defaults, |run| run.throughput)),
            format!("{:.2}", Spread::of(side, |run| run.p50)),
            format!("{:.2}", Spread::of(side, |run| run.p99)),
        ]);
    }
    table
}
