//! Which options of the recorder are good defaults.

use model_experiments::{Recorder, RecorderOptions};
use std::time::Duration;

use crate::database::Database;
use crate::measure::{self, Side};
use crate::report;
use crate::way::Way;

const WRITERS: [usize; 3] = [1, 2, 4];
const MAX_BATCHES: [usize; 5] = [128, 256, 512, 1_000, 2_000];
const MAX_DELAYS: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(5)];

/// How many callers, and how many rows they record in a round. Only the last ones can fill any batch.
const CALLERS: [(usize, usize); 4] = [(1, 100), (64, 5_000), (256, 8_000), (4_096, 12_000)];

/// Measures every combination.
pub async fn sweep(database: &Database, rounds: usize) {
    let mut sides = Vec::new();
    for writers in WRITERS {
        for max_batch in MAX_BATCHES {
            for max_delay in MAX_DELAYS {
                let options = RecorderOptions::default()
                    .writers(writers)
                    .max_batch(max_batch)
                    .max_delay(max_delay);
                let recorder = Recorder::start(&database.url(), options).await.unwrap();
                for (callers, rows) in CALLERS {
                    let name = format!("{writers} × {max_batch}, {max_delay:?}");
                    let way = Way::Recorder(recorder.clone());
                    sides.push(Side::new(name, way, callers, 1, rows));
                }
            }
        }
    }
    measure::rounds(database, &mut sides, rounds).await;
    sides.sort_by_key(|side| side.callers);
    for sides in sides.chunk_by(|side, next| side.callers == next.callers) {
        println!("{}\n", report::sides("on", sides));
    }
}
