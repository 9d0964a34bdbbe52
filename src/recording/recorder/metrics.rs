//! What a recorder counts, through the `metrics` facade.

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};

use crate::error::{Error, Result};
use crate::recording::recorder::pending::Part;
use crate::recording::types::Outcome;

const RECORDS: &str = "model_experiments_recorder_records_total";
const REFUSED: &str = "model_experiments_recorder_refused_total";
const RETRIES: &str = "model_experiments_recorder_retries_total";
const ROWS: &str = "model_experiments_recorder_held_records";
const BYTES: &str = "model_experiments_recorder_held_bytes";
const BATCH: &str = "model_experiments_recorder_batch_records";
const SECONDS: &str = "model_experiments_recorder_batch_seconds";

/// How many records are held, and how many bytes they take.
pub(super) fn held() -> [Gauge; 2] {
    metrics::describe_gauge!(ROWS, "Records that are waiting or being written");
    metrics::describe_gauge!(BYTES, Unit::Bytes, "The memory that they take");
    [gauge!(ROWS), gauge!(BYTES)]
}

/// Handles that are looked up once.
pub(super) struct Metrics {
    recorded: Counter,
    already_recorded: Counter,
    not_attributed: Counter,
    failed: Counter,
    /// Records for which there was no room.
    pub(super) refused: Counter,
    pub(super) retries: Counter,
    pub(super) batch_records: Histogram,
    pub(super) batch_seconds: Histogram,
}

impl Metrics {
    pub(super) fn new(part: Part) -> Self {
        metrics::describe_counter!(RECORDS, "Records by how recording them ended");
        metrics::describe_counter!(
            REFUSED,
            "Records that were to be taken at once, and for which there was no room"
        );
        metrics::describe_counter!(RETRIES, "Batches that were tried again");
        metrics::describe_histogram!(BATCH, "Records in a batch");
        metrics::describe_histogram!(
            SECONDS,
            Unit::Seconds,
            "How long writing a batch took, retries included"
        );
        let part = match part {
            Part::Both => "both",
            Part::Usage => "usage",
            Part::Request => "request",
        };
        Self {
            recorded: counter!(RECORDS, "outcome" => "recorded"),
            already_recorded: counter!(RECORDS, "outcome" => "already_recorded"),
            not_attributed: counter!(RECORDS, "outcome" => "not_attributed"),
            failed: counter!(RECORDS, "outcome" => "failed"),
            refused: counter!(REFUSED),
            retries: counter!(RETRIES, "part" => part),
            batch_records: histogram!(BATCH, "part" => part),
            batch_seconds: histogram!(SECONDS, "part" => part),
        }
    }

    pub(super) fn ended(&self, outcome: Result<Outcome, &Error>) {
        let counter = match outcome {
            Ok(Outcome::Recorded) => &self.recorded,
            Ok(Outcome::AlreadyRecorded) => &self.already_recorded,
            Err(Error::NotAttributed { .. }) => &self.not_attributed,
            Err(_) => &self.failed,
        };
        counter.increment(1);
    }
}
