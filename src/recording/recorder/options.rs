//! How a recorder is to work.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::recording::record::MAX_RECORDS;

/// What a recorder must have room for at least, in bytes: any one record.
const MIN_BYTES: usize = 1 << 20;

/// The most writers.
const MAX_WRITERS: usize = 64;

/// The longest that records may gather.
const MAX_DELAY: Duration = Duration::from_secs(24 * 3_600);

/// How a [`Recorder`](super::Recorder) is to work.
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
    /// How many statements are under way at a time, each on a connection of its own; 1 unless set, 64 at most. Another
    /// connection is made for records that are tried row by row, when there are any.
    pub fn writers(mut self, writers: usize) -> Self {
        self.writers = writers;
        self
    }

    /// How many records one statement takes at most; 512 unless set, 10,000 at most.
    pub fn max_batch(mut self, records: usize) -> Self {
        self.max_batch = records;
        self
    }

    /// How long a record may wait for others to fill its statement. Unless set it doesn't wait at all: whatever came
    /// while a statement was under way is in the next one. A day at most.
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// How many records may be held, waiting or being written; 16,384 unless set.
    pub fn max_records(mut self, records: usize) -> Self {
        self.max_records = records;
        self
    }

    /// How many bytes the records that are held may take; 64 MiB unless set, 1 MiB at least. Those in a
    /// statement that is under way take as much again.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long after a record was taken it is tried while the database can't be reached, gives way or is in trouble of its own;
    /// 10 minutes unless set. The attempt under way then is the last.
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// How long the database may take for a statement; 10 seconds unless set. For somebody else's lock a statement waits two
    /// seconds at most, whatever the URL says. When there is no answer for twice the timeout, the connection counts as lost.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// Whether usages are written by themselves, and the requests after them, by as many connections again: then nothing that is
    /// wrong with a request or with its table keeps a usage from being billed. Both are written together unless set.
    pub fn billing_first(mut self, billing_first: bool) -> Self {
        self.billing_first = billing_first;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let rules = [
            ((1..=MAX_WRITERS).contains(&self.writers), "writers must be between 1 and 64"),
            (
                (1..=MAX_RECORDS).contains(&self.max_batch),
                "max_batch must be between 1 and 10000 records",
            ),
            (self.max_records >= self.max_batch, "max_records must be at least max_batch"),
            (self.max_bytes >= MIN_BYTES, "max_bytes must be at least 1 MiB"),
            (self.max_delay <= MAX_DELAY, "max_delay must be at most a day"),
            (self.max_delay < self.retry_for, "retry_for must be longer than max_delay"),
            (!self.write_timeout.is_zero(), "write_timeout must be longer than nothing"),
            (self.write_timeout <= MAX_DELAY, "write_timeout must be at most a day"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(Error::configuration(rule)),
            None => Ok(()),
        }
    }
}
