//! Load shedding when billing comes first: stalled requests yield their capacity to usages.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use crate::error::Error;
use crate::recording::recorder::capacity::Capacity;
use crate::recording::recorder::progress::Progress;
use crate::recording::recorder::stage_queues::StageQueues;

/// How long no request may progress while capacity is scarce.
///
/// Longer than the lock timeout, so that blocked requests reach the retry queue first.
const STALL_TIMEOUT: Duration = Duration::from_secs(4);

/// Interval of checks while a record waits for capacity.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Sheds stalled requests.
pub(super) struct Shedder {
    capacity: Arc<Capacity>,
    progress: Arc<Progress>,
    /// Queues of the stage that writes requests.
    queues: StageQueues,
}

impl Shedder {
    pub(super) fn new(
        capacity: Arc<Capacity>,
        progress: Arc<Progress>,
        queues: StageQueues,
    ) -> Self {
        Self { capacity, progress, queues }
    }

    /// A record was accepted whose usage is to be written first.
    pub(super) fn usage_accepted(&self) {
        self.progress.usage_accepted();
    }

    /// Fails all queued requests if capacity is scarce because they are stalled.
    pub(super) fn shed_stalled_requests(&self) {
        let Some(since) = Instant::now().checked_sub(STALL_TIMEOUT) else { return };
        let is_scarce_by_requests =
            self.capacity.is_scarce() && self.progress.are_only_requests_stalled(since);
        if !is_scarce_by_requests || !self.queues.have_accepted_by(since) {
            return;
        }
        let mut shed = self.queues.take_all();
        tracing::error!(
            records = shed.len(),
            "stalled requests were shed to make room for usages; attribute them later"
        );
        for pending in &mut shed {
            pending.fail(Error::RecorderFull);
        }
    }
}
