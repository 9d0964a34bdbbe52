//! What waits to be written, with a bound.

use std::collections::VecDeque;
use std::mem::take;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, TryAcquireError};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use super::RecorderOptions;
use super::metrics::Metrics;
use super::row::{Room, Row};
use crate::error::{Error, Result};

/// Rows in the order in which they came. There is room for so many of them, and for so many bytes, until they are
/// dropped: those that are being written count.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    rows: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_rows: usize,
    max_bytes: usize,
    max_batch: usize,
    max_delay: Duration,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Waiting {
    rows: VecDeque<Row>,
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(options: &RecorderOptions, metrics: Arc<Metrics>) -> Self {
        // More than that is no bound.
        let [max_rows, max_bytes] =
            [options.max_rows, options.max_bytes].map(|max| max.min(Semaphore::MAX_PERMITS));
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            rows: Arc::new(Semaphore::new(max_rows)),
            bytes: Arc::new(Semaphore::new(max_bytes)),
            max_rows,
            max_bytes,
            max_batch: options.max_batch,
            max_delay: options.max_delay,
            metrics,
        }
    }

    /// Room for a record of `size` bytes, when there is some.
    pub(super) async fn room(&self, size: u32) -> Result<Room> {
        let rows = Arc::clone(&self.rows).acquire_owned().await;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(size).await;
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
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(size);
        Ok(Room { rows, bytes: bytes.map_err(refused)? })
    }

    /// Puts a row in. When the queue is closed the row is dropped, which its caller is told.
    pub(super) fn push(&self, row: Row) {
        let mut waiting = self.waiting();
        if waiting.is_closed {
            drop(waiting);
            drop(row);
        } else {
            waiting.rows.push_back(row);
            drop(waiting);
            self.arrived.notify_one();
        }
    }

    /// The rows of the next statement, when there are enough or they have waited long enough. `None` once the queue is
    /// closed and empty.
    pub(super) async fn next(&self) -> Option<Vec<Row>> {
        loop {
            // Callers that are about to put something in do so first: those that were just answered, and those
            // behind the one whose arrival woke this task.
            yield_now().await;
            let mut arrived = pin!(self.arrived.notified());
            // From here on, an arrival isn't missed.
            arrived.as_mut().enable();
            let due = match self.take_batch() {
                Next::Rows(rows) => return Some(rows),
                Next::At(due) => due,
                Next::Never => return None,
            };
            match due {
                Some(due) => drop(timeout_at(due, arrived).await),
                None => arrived.await,
            }
        }
    }

    fn take_batch(&self) -> Next {
        let mut waiting = self.waiting();
        let Some(oldest) = waiting.rows.front() else {
            return if waiting.is_closed { Next::Never } else { Next::At(None) };
        };
        let due = oldest.accepted + self.max_delay;
        if waiting.rows.len() < self.max_batch && !waiting.is_closed && due > Instant::now() {
            return Next::At(Some(due));
        }
        let many = waiting.rows.len().min(self.max_batch);
        Next::Rows(waiting.rows.drain(..many).collect())
    }

    /// Takes those that were accepted at `instant` or before.
    pub(super) fn take_older(&self, instant: Instant) -> VecDeque<Row> {
        let mut waiting = self.waiting();
        // Those that come from another queue may have overtaken each other.
        let (older, younger) =
            take(&mut waiting.rows).into_iter().partition(|row| row.accepted <= instant);
        waiting.rows = younger;
        older
    }

    /// Takes all that wait.
    pub(super) fn take_all(&self) -> VecDeque<Row> {
        take(&mut self.waiting().rows)
    }

    /// Takes no more rows, and wakes whoever waits for room or for rows.
    pub(super) fn close(&self) {
        self.waiting().is_closed = true;
        self.rows.close();
        self.bytes.close();
        self.arrived.notify_waiters();
    }

    /// How many rows there are, and how many bytes they take: waiting, or being written.
    pub(super) fn held(&self) -> (usize, usize) {
        let rows = self.max_rows - self.rows.available_permits();
        (rows, self.max_bytes - self.bytes.available_permits())
    }

    /// Says to the metrics what is held.
    pub(super) fn observe(&self) {
        let (rows, bytes) = self.held();
        self.metrics.rows.set(rows as f64);
        self.metrics.bytes.set(bytes as f64);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a writer is to do next.
enum Next {
    Rows(Vec<Row>),
    /// To wait for more, until then at most.
    At(Option<Instant>),
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::record::Record;
    use crate::recorder::row::Part;
    use crate::registry::seed;
    use crate::tables::{requests::NewRequest, usages::Usage};
    use crate::values::AllocationSubject;

    #[test]
    fn the_older_are_taken_wherever_they_are() {
        let metrics = Arc::new(Metrics::new(Part::Request));
        let queue = Queue::new(&RecorderOptions::default(), Arc::clone(&metrics));
        let now = Instant::now();
        for age in [1, 3, 0, 2, 3, 1_u64] {
            let request = NewRequest::new(seed::version(7), AllocationSubject::User);
            let record = Record::new(Usage::new("user-1"), request);
            let room = queue.try_room(1).unwrap();
            let (mut row, _) =
                Row::new(Box::new(record), Part::Request, room, Arc::clone(&metrics));
            row.accepted = now - Duration::from_secs(age);
            queue.push(row);
        }
        let ages = |rows: VecDeque<Row>| {
            rows.iter().map(|row| (now - row.accepted).as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(ages(queue.take_older(now - Duration::from_secs(2))), [3, 2, 3]);
        assert_eq!(ages(queue.take_all()), [1, 0, 1]);
    }
}
