//! Queue of pending records before a stage's writers.

use std::collections::VecDeque;
use std::mem::take;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use crate::recording::recorder::batch::{MAX_BATCH_BYTES, take_batch};
use crate::recording::recorder::pending_record::PendingRecord;

/// Pending records in order of arrival, taken in batches.
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Notify,
    max_batch: usize,
    max_delay: Duration,
}

/// Sends into a queue; dropping it closes the queue.
pub(super) struct QueueSender(Arc<Queue>);

#[derive(Default)]
struct State {
    records: VecDeque<PendingRecord>,
    /// Size of the records.
    bytes: usize,
    is_closed: bool,
}

/// What a writer does next.
enum Next {
    Write(Vec<PendingRecord>),
    /// Waits for more records, until `due` if there is one.
    Wait {
        due: Option<Instant>,
    },
    /// Ends: the queue is closed and empty.
    End,
}

impl Queue {
    pub(super) fn new(max_batch: usize, max_delay: Duration) -> Self {
        Self { state: Mutex::default(), arrived: Notify::new(), max_batch, max_delay }
    }

    /// Appends a record. A closed queue drops it, which answers its receipt.
    pub(super) fn push(&self, record: PendingRecord) {
        let mut state = self.state();
        if state.is_closed {
            drop(state);
            drop(record);
        } else {
            state.bytes += record.size();
            state.records.push_back(record);
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// Takes the next batch once it is full, in records or in bytes, or its oldest record has
    /// waited for `max_delay`.
    ///
    /// Returns `None` once the queue is closed and empty. If `is_busy`, other tasks run first, so
    /// that callers that were just answered can submit into this batch; a lone caller isn't
    /// delayed.
    pub(super) async fn next_batch(&self, is_busy: bool) -> Option<Vec<PendingRecord>> {
        loop {
            if is_busy {
                yield_now().await;
            }
            let mut arrived = pin!(self.arrived.notified());
            // Registers before looking, so that no arrival is missed.
            arrived.as_mut().enable();
            let due = match self.take_batch() {
                Next::Write(records) => return Some(records),
                Next::Wait { due } => due,
                Next::End => return None,
            };
            match due {
                Some(due) => drop(timeout_at(due, arrived).await),
                None => arrived.await,
            }
        }
    }

    fn take_batch(&self) -> Next {
        let mut state = self.state();
        let Some(oldest) = state.records.front() else {
            return if state.is_closed { Next::End } else { Next::Wait { due: None } };
        };
        let due = oldest.accepted + self.max_delay;
        let is_full = state.records.len() >= self.max_batch || state.bytes >= MAX_BATCH_BYTES;
        if !is_full && !state.is_closed && due > Instant::now() {
            return Next::Wait { due: Some(due) };
        }
        let records = take_batch(&mut state.records, self.max_batch);
        state.bytes -= records.iter().map(PendingRecord::size).sum::<usize>();
        Next::Write(records)
    }

    /// Whether it holds a record accepted at `instant` or earlier.
    pub(super) fn has_accepted_by(&self, instant: Instant) -> bool {
        self.state().records.iter().any(|record| record.accepted <= instant)
    }

    /// Takes the records accepted at `instant` or earlier.
    pub(super) fn take_accepted_by(&self, instant: Instant) -> VecDeque<PendingRecord> {
        let mut state = self.state();
        // Records that were forwarded aren't in order of acceptance: look at all.
        let (older, younger): (VecDeque<_>, VecDeque<_>) =
            take(&mut state.records).into_iter().partition(|record| record.accepted <= instant);
        state.bytes = younger.iter().map(PendingRecord::size).sum();
        state.records = younger;
        older
    }

    /// Takes all records.
    pub(super) fn take_all(&self) -> VecDeque<PendingRecord> {
        let mut state = self.state();
        state.bytes = 0;
        take(&mut state.records)
    }

    /// Refuses further records, and wakes waiting writers.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.arrived.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueSender {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self(queue)
    }

    /// Appends a record. A closed queue drops it, which answers its receipt.
    pub(super) fn send(&self, record: PendingRecord) {
        self.0.push(record);
    }

    /// Closes the queue.
    pub(super) fn close(&self) {
        self.0.close();
    }
}

impl Drop for QueueSender {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::recorder::capacity::Capacity;
    use crate::recording::recorder::options::RecorderOptions;
    use crate::recording::recorder::samples::sample;
    use crate::registry::seed;

    fn capacity() -> Capacity {
        Capacity::new(&RecorderOptions::default().max_bytes(usize::MAX))
    }

    fn pending(capacity: &Capacity, size: usize, age: u64) -> PendingRecord {
        let (size, age) = (u32::try_from(size).unwrap(), Duration::from_secs(age));
        sample(capacity, seed::version(7), size, age).0
    }

    #[test]
    fn older_records_are_taken_at_any_position() {
        let (queue, capacity) = (Queue::new(512, Duration::ZERO), capacity());
        for age in [1, 3, 0, 2, 3, 1] {
            queue.push(pending(&capacity, 1, age));
        }
        let ages = |records: VecDeque<PendingRecord>| {
            records.iter().map(|record| record.accepted.elapsed().as_secs()).collect::<Vec<_>>()
        };
        let two_seconds_ago = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        assert_eq!(ages(queue.take_accepted_by(two_seconds_ago)), [3, 2, 3]);
        assert_eq!(ages(queue.take_all()), [1, 0, 1]);
    }

    /// The sizes of the batches that are taken of records with these sizes.
    fn batches(sizes: &[usize]) -> Vec<Vec<usize>> {
        let (queue, capacity) = (Queue::new(4, Duration::ZERO), capacity());
        sizes.iter().for_each(|size| queue.push(pending(&capacity, *size, 0)));
        let next = || match queue.take_batch() {
            Next::Write(records) => Some(records.iter().map(PendingRecord::size).collect()),
            _ => None,
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_batch_ends_at_either_bound() {
        const MAX: usize = MAX_BATCH_BYTES;
        assert_eq!(batches(&[1; 5]), [vec![1; 4], vec![1]]);
        assert_eq!(batches(&[MAX - 1, 1, 1]), [vec![MAX - 1, 1], vec![1]]);
        assert_eq!(batches(&[MAX, 1]), [vec![MAX], vec![1]]);
        // A record that is larger goes alone.
        assert_eq!(batches(&[1, MAX + 1, 1]), [vec![1], vec![MAX + 1], vec![1]]);
    }

    #[test]
    fn a_batch_waits_until_it_is_full_in_records_or_in_bytes() {
        let is_taken = |sizes: &[usize]| {
            let (queue, capacity) = (Queue::new(3, Duration::from_secs(60)), capacity());
            sizes.iter().for_each(|size| queue.push(pending(&capacity, *size, 0)));
            matches!(queue.take_batch(), Next::Write(_))
        };
        assert!(!is_taken(&[1, MAX_BATCH_BYTES - 2]));
        assert!(is_taken(&[1, MAX_BATCH_BYTES - 1]));
        assert!(!is_taken(&[1; 2]));
        assert!(is_taken(&[1; 3]));
    }

    #[test]
    fn bytes_that_were_taken_fill_no_batch() {
        let (queue, capacity) = (Queue::new(3, Duration::from_secs(60)), capacity());
        let is_full = || matches!(queue.take_batch(), Next::Write(_));
        queue.push(pending(&capacity, MAX_BATCH_BYTES, 0));
        assert!(is_full());
        queue.push(pending(&capacity, MAX_BATCH_BYTES - 1, 9));
        drop(queue.take_accepted_by(Instant::now().checked_sub(Duration::from_secs(8)).unwrap()));
        queue.push(pending(&capacity, MAX_BATCH_BYTES - 1, 0));
        drop(queue.take_all());
        queue.push(pending(&capacity, MAX_BATCH_BYTES - 1, 0));
        assert!(!is_full());
        queue.push(pending(&capacity, 1, 0));
        assert!(is_full());
    }
}
