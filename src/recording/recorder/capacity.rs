//! The room for what is held, in records and in bytes.

use ::metrics::Gauge;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::recording::recorder::metrics;
use crate::recording::recorder::options::RecorderOptions;
use crate::recording::recorder::pending::Part;

/// Room for so many records, and for so many bytes.
pub(super) struct Capacity {
    rows: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_records: usize,
    max_bytes: usize,
    gauges: [Gauge; 2],
    progress: Mutex<Progress>,
}

/// How recording gets on where billing comes first.
struct Progress {
    /// How many records have their usage yet to be written.
    unbilled: usize,
    /// When a usage last got on.
    billed: Instant,
    /// When a request last got on.
    attributed: Instant,
}

/// The room that a record takes until this is dropped.
#[expect(dead_code, reason = "it is only held")]
pub(super) struct Room {
    rows: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

impl Capacity {
    pub(super) fn new(options: &RecorderOptions) -> Self {
        // More than that is no bound.
        let [max_records, max_bytes] =
            [options.max_records, options.max_bytes].map(|max| max.min(Semaphore::MAX_PERMITS));
        Self {
            rows: Arc::new(Semaphore::new(max_records)),
            bytes: Arc::new(Semaphore::new(max_bytes)),
            max_records,
            max_bytes,
            gauges: metrics::held(),
            progress: Mutex::new(Progress {
                unbilled: 0,
                billed: Instant::now(),
                attributed: Instant::now(),
            }),
        }
    }

    /// A usage is to be written.
    pub(super) fn bill(&self) {
        self.progress().unbilled += 1;
    }

    /// So many rows have `part` behind them.
    pub(super) fn got_on(&self, part: Part, rows: usize) {
        if rows == 0 || part == Part::Both {
            return;
        }
        let (mut progress, now) = (self.progress(), Instant::now());
        if part == Part::Usage {
            progress.unbilled = progress.unbilled.saturating_sub(rows);
            progress.billed = now;
        } else {
            progress.attributed = now;
        }
    }

    /// Whether room is scarce since `instant` because of requests alone: none has got on, and usages have or aren't in
    /// the way themselves.
    pub(super) fn is_taken_by_requests(&self, instant: Instant) -> bool {
        let progress = self.progress();
        let usages_get_on = progress.unbilled == 0 || progress.billed > instant;
        self.is_scarce() && usages_get_on && progress.attributed <= instant
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for a record of `size` bytes, when there is some.
    pub(super) async fn room(&self, size: u32) -> Result<Room> {
        let rows = Arc::clone(&self.rows).acquire_owned().await;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(self.at_most(size)).await;
        match (rows, bytes) {
            (Ok(rows), Ok(bytes)) => Ok(Room { rows, bytes }),
            _ => Err(Error::RecorderClosed),
        }
    }

    /// Room for a record of `size` bytes, if there is some.
    pub(super) fn try_room(&self, size: u32) -> Result<Room> {
        let refused = |error| match error {
            TryAcquireError::NoPermits => Error::RecorderFull,
            TryAcquireError::Closed => Error::RecorderClosed,
        };
        let rows = Arc::clone(&self.rows).try_acquire_owned().map_err(refused)?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.at_most(size));
        Ok(Room { rows, bytes: bytes.map_err(refused)? })
    }

    /// A record that takes more than there is room for takes all of it.
    fn at_most(&self, size: u32) -> u32 {
        size.min(u32::try_from(self.max_bytes).unwrap_or(u32::MAX))
    }

    /// Gives no more room, and wakes whoever waits for some.
    pub(super) fn close(&self) {
        self.rows.close();
        self.bytes.close();
    }

    /// How many records there are, and how many bytes they take.
    pub(super) fn held(&self) -> [usize; 2] {
        let rows = self.max_records - self.rows.available_permits();
        [rows, self.max_bytes - self.bytes.available_permits()]
    }

    /// Whether more than half of it is taken.
    fn is_scarce(&self) -> bool {
        let [rows, bytes] = self.held();
        rows > self.max_records / 2 || bytes > self.max_bytes / 2
    }

    /// Says to the metrics what is held.
    pub(super) fn observe(&self) {
        for (gauge, held) in self.gauges.iter().zip(self.held()) {
            gauge.set(held as f64);
        }
    }
}
