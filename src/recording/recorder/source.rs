//! Where a writer takes its batches from, and where those of their records go that are blocked.

use std::sync::Arc;
use tokio::time::Instant;

use crate::recording::recorder::pending_record::PendingRecord;
use crate::recording::recorder::queue::Queue;
use crate::recording::recorder::retry_queue::{Attempt, RetryQueue, RetrySender};

/// Where a writer takes its batches from.
pub(super) enum Source {
    /// Records in order of arrival. Blocked ones go to the retry queue.
    Queue { queue: Arc<Queue>, retry_queue: Arc<RetrySender> },
    /// Records that were blocked. They return to the retry queue while they are.
    RetryQueue(Arc<RetryQueue>),
}

impl Source {
    /// Takes the next batch; `None` once the queue is closed and empty.
    pub(super) async fn next_batch(&self, is_busy: bool) -> Option<Vec<PendingRecord>> {
        match self {
            Self::Queue { queue, retry_queue } => {
                let mut records = queue.next_batch(is_busy).await?;
                retry_queue.divert(&mut records);
                Some(records)
            }
            Self::RetryQueue(queue) => queue.next_batch().await,
        }
    }

    /// Ends an attempt that the server answered; takes back the records that remain.
    pub(super) fn put_back(&self, records: &mut Vec<PendingRecord>, attempt: Attempt) {
        match self {
            Self::Queue { retry_queue, .. } if !records.is_empty() => {
                retry_queue.set_aside(records);
            }
            Self::Queue { .. } => {}
            Self::RetryQueue(queue) => queue.put_back(records, attempt),
        }
    }

    /// Takes all queued records accepted at `instant` or earlier.
    pub(super) fn take_accepted_by(&self, instant: Instant) -> Vec<PendingRecord> {
        match self {
            Self::Queue { queue, .. } => queue.take_accepted_by(instant).into(),
            Self::RetryQueue(queue) => queue.take_accepted_by(instant),
        }
    }

    /// Takes the queued records accepted at `instant` or earlier that are blocked like the batch
    /// that is being written.
    pub(super) fn take_blocked_accepted_by(&self, instant: Instant) -> Vec<PendingRecord> {
        match self {
            // Its other records may get through.
            Self::Queue { .. } => Vec::new(),
            Self::RetryQueue(queue) => queue.take_blocked_accepted_by(instant),
        }
    }

    /// Closes the queue, and drops its records, which answers their receipts.
    pub(super) fn abandon(&self) {
        match self {
            Self::Queue { queue, .. } => {
                queue.close();
                drop(queue.take_all());
            }
            Self::RetryQueue(queue) => {
                queue.close();
                drop(queue.take_all());
            }
        }
    }
}
