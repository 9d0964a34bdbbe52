//! A sweep over the recorder's options, to find good defaults.

use comfy_table::Table;
use model_experiments::{Recorder, RecorderOptions};
use std::time::Duration;

use crate::database::Database;
use crate::measure::{self, Load, Scenario};
use crate::path::Path;
use crate::report::{self, OverRounds};

const WRITERS: [usize; 3] = [1, 2, 4];
const MAX_BATCHES: [usize; 5] = [128, 256, 512, 1_000, 2_000];
const MAX_DELAYS: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(5)];

/// The loads. Only the last one can fill every batch.
const LOADS: [Load; 4] = [
    Load { callers: 1, batch: 1, records: 100 },
    Load { callers: 64, batch: 1, records: 5_000 },
    Load { callers: 256, batch: 1, records: 8_000 },
    Load { callers: 4_096, batch: 1, records: 12_000 },
];

/// The name of the scenarios with default options.
const DEFAULTS: &str = "defaults";

/// Measures the defaults and every combination of options.
pub async fn sweep(database: &Database, rounds: usize) {
    let mut all = vec![(DEFAULTS.to_owned(), RecorderOptions::default())];
    for writers in WRITERS {
        for max_batch in MAX_BATCHES {
            for max_delay in MAX_DELAYS {
                let options = RecorderOptions::default()
                    .writers(writers)
                    .max_batch(max_batch)
                    .max_delay(max_delay);
                all.push((format!("{writers} × {max_batch}, {max_delay:?}"), options));
            }
        }
    }
    let mut paths = Vec::new();
    for (name, options) in all {
        let recorder = Recorder::start(&database.options(), options).await.unwrap();
        paths.push((name, Path::Recorder(recorder)));
    }
    let mut scenarios = Vec::new();
    for load in LOADS {
        for (name, path) in &paths {
            scenarios.push(Scenario::new(name, path.clone(), load));
        }
    }
    measure::rounds(database, &mut scenarios, rounds).await;
    for scenarios in scenarios.chunk_by(|one, next| one.load.callers == next.load.callers) {
        println!("{}\n", table(scenarios));
    }
}

/// A table of the scenarios with one load, compared with the defaults.
fn table(scenarios: &[Scenario]) -> Table {
    let defaults = report::find(scenarios, DEFAULTS);
    let callers = format!("{} callers", defaults.load.callers);
    let mut table =
        report::table([&callers, "records/s", "ratio to defaults", "wait p50, ms", "wait p99, ms"]);
    for scenario in scenarios {
        table.add_row([
            scenario.name.clone(),
            format!("{:.0}", OverRounds::of(scenario, |run| run.throughput)),
            format!("{:.2}", OverRounds::of_ratio(scenario, defaults, |run| run.throughput)),
            format!("{:.2}", OverRounds::of(scenario, |run| run.p50)),
            format!("{:.2}", OverRounds::of(scenario, |run| run.p99)),
        ]);
    }
    table
}
