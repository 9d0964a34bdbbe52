//! Options of a recorder, with their defaults and limits.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::recording::record::MAX_RECORDS;

/// Lower limit of `max_bytes`: no record is larger.
const MIN_BYTES: usize = 1 << 20;

/// Upper limit of `writers`.
const MAX_WRITERS: usize = 64;

/// Upper limit of `max_delay` and of `write_timeout`.
const MAX_DELAY: Duration = Duration::from_secs(24 * 3_600);

/// Options of a [`Recorder`](crate::Recorder): batching, capacity, retries and timeouts.
///
/// Every option has a default. [`Recorder::start`](crate::Recorder::start) checks the limits.
///
/// ```
/// use model_experiments::RecorderOptions;
/// use std::time::Duration;
///
/// let options = RecorderOptions::default().writers(4).retry_for(Duration::from_secs(3_600));
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct RecorderOptions {
    pub(super) writers: usize,
    pub(super) max_batch: usize,
    pub(super) max_delay: Duration,
    pub(super) max_records: usize,
    pub(super) max_bytes: usize,
    pub(super) retry_for: Duration,
    pub(super) write_timeout: Duration,
    pub(super) billing_first: bool,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self {
            writers: 1,
            max_batch: 512,
            max_delay: Duration::ZERO,
            max_records: 16_384,
            max_bytes: 64 << 20,
            retry_for: Duration::from_secs(600),
            write_timeout: Duration::from_secs(10),
            billing_first: false,
        }
    }
}

impl RecorderOptions {
    /// Number of batches written concurrently, each over a connection of its own.
    ///
    /// Default 1, from 1 to 64. One more connection is opened when records are blocked.
    pub fn writers(mut self, writers: usize) -> Self {
        self.writers = writers;
        self
    }

    /// Maximum number of records in a batch.
    ///
    /// Default 512, from 1 to 10,000, and not more than [`max_records`](Self::max_records). Records
    /// of more than 4 MiB are divided into several batches.
    pub fn max_batch(mut self, records: usize) -> Self {
        self.max_batch = records;
        self
    }

    /// How long a record may wait for others to fill its batch.
    ///
    /// Default zero, at most one day, and shorter than [`retry_for`](Self::retry_for). Without a
    /// delay, a batch takes the records that arrived while the previous one was written.
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Maximum number of records held: queued or being written.
    ///
    /// Default 16,384, at least [`max_batch`](Self::max_batch).
    pub fn max_records(mut self, records: usize) -> Self {
        self.max_records = records;
        self
    }

    /// Maximum memory of the records held, in bytes.
    ///
    /// Default 64 MiB, at least 1 MiB. A batch ends at 4 MiB, and its statement takes up to four
    /// times as much while it runs: 16 MiB for each of the [`writers`](Self::writers), and for the
    /// one that retries.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long a record is retried after it was accepted: its deadline.
    ///
    /// Default 10 minutes, longer than [`max_delay`](Self::max_delay). An attempt that runs at the
    /// deadline is the last.
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// Statement timeout of the recorder's connections.
    ///
    /// Default 10 seconds, greater than zero, at most one day. The lock timeout is the same, but
    /// two seconds at most, and a quarter of a second for retries. Both override the URL's. A
    /// connection without an answer for twice the timeout counts as lost.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// Whether usages are written first, and each request after its usage was committed.
    ///
    /// Default false: both are written together. If true, a failing request can't keep its usage
    /// from being billed, and the recorder opens twice as many connections.
    pub fn billing_first(mut self, billing_first: bool) -> Self {
        self.billing_first = billing_first;
        self
    }

    /// Checks all limits.
    pub(super) fn check(&self) -> Result<()> {
        let rules = [
            ((1..=MAX_WRITERS).contains(&self.writers), "writers must be between 1 and 64"),
            (
                (1..=MAX_RECORDS).contains(&self.max_batch),
                "max_batch must be between 1 and 10000 records",
            ),
            (self.max_records >= self.max_batch, "max_records must be at least max_batch"),
            (self.max_bytes >= MIN_BYTES, "max_bytes must be at least 1 MiB"),
            (self.max_delay <= MAX_DELAY, "max_delay must be at most one day"),
            (self.max_delay < self.retry_for, "retry_for must be longer than max_delay"),
            (!self.write_timeout.is_zero(), "write_timeout must be longer than zero"),
            (self.write_timeout <= MAX_DELAY, "write_timeout must be at most one day"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(Error::configuration(rule)),
            None => Ok(()),
        }
    }
}
