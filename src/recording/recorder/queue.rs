//! What waits to be written.

use std::collections::VecDeque;
use std::mem::take;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use crate::recording::recorder::pending::Row;

/// Rows in the order in which they came.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    max_batch: usize,
    max_delay: Duration,
}

/// The way into a queue, which is closed when this is dropped.
pub(super) struct Feed(Arc<Queue>);

#[derive(Default)]
struct Waiting {
    rows: VecDeque<Row>,
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(max_batch: usize, max_delay: Duration) -> Self {
        Self { waiting: Mutex::default(), arrived: Notify::new(), max_batch, max_delay }
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

    /// Puts rows back behind the others, also when the queue is closed: they were in it.
    pub(super) fn put_back(&self, rows: &mut Vec<Row>) {
        self.waiting().rows.extend(rows.drain(..));
        self.arrived.notify_one();
    }

    /// Whether a row has waited since `instant` or longer.
    pub(super) fn has_older(&self, instant: Instant) -> bool {
        self.waiting().rows.iter().any(|row| row.accepted <= instant)
    }

    /// The rows of the next statement, when there are enough or they have waited long enough. `None` once the queue is
    /// closed and empty. When it `is_busy`, callers that are about to put something in do so first: those that were just
    /// answered, and those behind the one whose arrival woke this task. A lone caller would only wait for nobody.
    pub(super) async fn next(&self, is_busy: bool) -> Option<Vec<Row>> {
        loop {
            if is_busy {
                yield_now().await;
            }
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

    /// Takes no more rows, and wakes whoever waits for some.
    pub(super) fn close(&self) {
        self.waiting().is_closed = true;
        self.arrived.notify_waiters();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self(queue)
    }

    /// Puts a row in.
    pub(super) fn push(&self, row: Row) {
        self.0.push(row);
    }

    /// Closes the queue.
    pub(super) fn close(&self) {
        self.0.close();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
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
    use crate::recording::recorder::capacity::Capacity;
    use crate::recording::recorder::metrics::Metrics;
    use crate::recording::recorder::options::RecorderOptions;
    use crate::recording::recorder::pending::Part;
    use crate::recording::types::Record;
    use crate::registry::seed;
    use crate::tables::requests::NewRequest;
    use crate::tables::usages::Usage;
    use crate::values::AllocationSubject;

    #[test]
    fn the_older_are_taken_wherever_they_are() {
        let metrics = Arc::new(Metrics::new(Part::Request));
        let options = RecorderOptions::default();
        let (queue, capacity) = (Queue::new(512, Duration::ZERO), Capacity::new(&options));
        let now = Instant::now();
        for age in [1, 3, 0, 2, 3, 1_u64] {
            let request = NewRequest::new(seed::version(7), AllocationSubject::User);
            let record = Record::new(Usage::new("user-1"), request);
            let room = capacity.try_room(1).unwrap();
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
