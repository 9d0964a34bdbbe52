//! The queues of a stage.

use std::sync::Arc;
use tokio::time::Instant;

use crate::recording::recorder::pending_record::PendingRecord;
use crate::recording::recorder::queue::Queue;
use crate::recording::recorder::retry_queue::RetryQueue;

/// The queue and the retry queue of a stage.
#[derive(Clone)]
pub(super) struct StageQueues {
    pub(super) queue: Arc<Queue>,
    pub(super) retry_queue: Arc<RetryQueue>,
}

impl StageQueues {
    /// Whether they hold a record accepted at `instant` or earlier.
    pub(super) fn have_accepted_by(&self, instant: Instant) -> bool {
        self.queue.has_accepted_by(instant) || self.retry_queue.has_accepted_by(instant)
    }

    /// Takes all records.
    pub(super) fn take_all(&self) -> Vec<PendingRecord> {
        let mut records = Vec::from(self.queue.take_all());
        records.extend(self.retry_queue.take_all());
        records
    }
}
