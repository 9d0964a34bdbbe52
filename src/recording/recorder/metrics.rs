//! Metrics of a recorder, through the `metrics` facade.

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};

use crate::error::{Error, Result};
use crate::recording::recorder::part::Part;
use crate::recording::types::Outcome;

const RECORDS: &str = "model_experiments_recorder_records_total";
const REFUSED: &str = "model_experiments_recorder_refused_total";
const RETRIES: &str = "model_experiments_recorder_retries_total";
const HELD_RECORDS: &str = "model_experiments_recorder_held_records";
const HELD_BYTES: &str = "model_experiments_recorder_held_bytes";
const BATCH_RECORDS: &str = "model_experiments_recorder_batch_records";
const BATCH_SECONDS: &str = "model_experiments_recorder_batch_seconds";

/// Gauges of held records and of the memory that they occupy.
pub(super) struct HeldGauges {
    pub(super) records: Gauge,
    pub(super) bytes: Gauge,
}

/// Counters and histograms of one stage, looked up once.
pub(super) struct Metrics {
    recorded: Counter,
    already_recorded: Counter,
    not_attributed: Counter,
    failed: Counter,
    /// Records refused by `try_submit` for lack of capacity.
    pub(super) refused: Counter,
    pub(super) retries: Counter,
    pub(super) batch_records: Histogram,
    pub(super) batch_seconds: Histogram,
}

impl HeldGauges {
    pub(super) fn new() -> Self {
        metrics::describe_gauge!(HELD_RECORDS, "Records queued or being written");
        metrics::describe_gauge!(HELD_BYTES, Unit::Bytes, "Memory occupied by held records");
        Self { records: gauge!(HELD_RECORDS), bytes: gauge!(HELD_BYTES) }
    }
}

impl Metrics {
    pub(super) fn new(part: Part) -> Self {
        metrics::describe_counter!(RECORDS, "Records by final outcome");
        metrics::describe_counter!(REFUSED, "Records refused by try_submit for lack of capacity");
        metrics::describe_counter!(RETRIES, "Attempts of batches that failed and were retried");
        metrics::describe_histogram!(BATCH_RECORDS, "Records in a batch");
        metrics::describe_histogram!(
            BATCH_SECONDS,
            Unit::Seconds,
            "Time to write a batch, retries included"
        );
        let part = part.label();
        Self {
            recorded: counter!(RECORDS, "outcome" => "recorded"),
            already_recorded: counter!(RECORDS, "outcome" => "already_recorded"),
            not_attributed: counter!(RECORDS, "outcome" => "not_attributed"),
            failed: counter!(RECORDS, "outcome" => "failed"),
            refused: counter!(REFUSED),
            retries: counter!(RETRIES, "part" => part),
            batch_records: histogram!(BATCH_RECORDS, "part" => part),
            batch_seconds: histogram!(BATCH_SECONDS, "part" => part),
        }
    }

    /// Counts a record by its final outcome.
    pub(super) fn count_outcome(&self, outcome: Result<Outcome, &Error>) {
        let counter = match outcome {
            Ok(Outcome::Recorded) => &self.recorded,
            Ok(Outcome::AlreadyRecorded) => &self.already_recorded,
            Err(Error::NotAttributed { .. }) => &self.not_attributed,
            Err(_) => &self.failed,
        };
        counter.increment(1);
    }
}
