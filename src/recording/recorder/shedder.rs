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

    /// Fails queued requests that are stalled if capacity is scarce: all, or those of a blocked
    /// version.
    pub(super) fn shed_stalled_requests(&self) {
        let Some(since) = Instant::now().checked_sub(STALL_TIMEOUT) else { return };
        if !self.capacity.is_scarce() || self.progress.are_usages_stalled(since) {
            return;
        }
        let are_all_stalled =
            self.progress.are_requests_stalled(since) && self.queues.have_accepted_by(since);
        let mut shed = match are_all_stalled {
            true => self.queues.take_all(),
            false => self.queues.retry_queue.take_stalled(since),
        };
        if shed.is_empty() {
            return;
        }
        tracing::error!(
            records = shed.len(),
            "stalled requests were shed to make room for usages; attribute them later"
        );
        for pending in &mut shed {
            pending.fail(Error::RecorderFull);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::recorder::options::RecorderOptions;
    use crate::recording::recorder::part::Part;
    use crate::recording::recorder::queue::Queue;
    use crate::recording::recorder::receipt::Receipt;
    use crate::recording::recorder::retry_queue::{RetryQueue, RetrySender};
    use crate::recording::recorder::samples::sample;
    use crate::registry::seed;
    use futures_util::FutureExt;
    use tokio::time::advance;

    const TICK: Duration = Duration::from_millis(1);

    /// A shedder of a recorder with room for ten records.
    struct Fixture {
        shedder: Shedder,
        retry_sender: RetrySender,
        receipts: Vec<Receipt>,
    }

    impl Fixture {
        /// No time has passed, and nothing is held.
        fn new() -> Self {
            let options = RecorderOptions::default().max_records(10);
            let retry_queue = Arc::new(RetryQueue::new(512, options.retry_for));
            let queue = Arc::new(Queue::new(512, Duration::ZERO));
            let retry_sender = RetrySender::new(Arc::clone(&retry_queue));
            let queues = StageQueues { queue, retry_queue };
            let capacity = Arc::new(Capacity::new(&options));
            let shedder = Shedder::new(capacity, Arc::new(Progress::new()), queues);
            Self { shedder, retry_sender, receipts: Vec::new() }
        }

        /// Queues requests, of which every second is to be retried.
        fn queue(mut self, requests: usize) -> Self {
            for at in 0..requests {
                let (capacity, version) = (&self.shedder.capacity, seed::version(7));
                let (record, receipt) = sample(capacity, version, 1, Duration::ZERO);
                self.receipts.push(receipt);
                if at % 2 == 0 {
                    self.shedder.queues.queue.push(record);
                } else {
                    self.retry_sender.set_aside(&mut vec![record]);
                }
            }
            self
        }

        /// How many requests are shed now.
        fn shed(self) -> usize {
            self.shedder.shed_stalled_requests();
            let answers = self.receipts.into_iter().filter_map(FutureExt::now_or_never);
            let shed = answers.filter(|answer| {
                let not_recorded = answer.as_ref().unwrap_err();
                assert_eq!(not_recorded.error, Error::RecorderFull);
                true
            });
            shed.count()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_shed_once_they_are_stalled_in_more_than_half_of_the_room() {
        for (requests, age, expected) in [
            (5, STALL_TIMEOUT, 0),
            (6, STALL_TIMEOUT - TICK, 0),
            (6, STALL_TIMEOUT, 6),
            (10, STALL_TIMEOUT + TICK, 10),
        ] {
            let fixture = Fixture::new().queue(requests);
            advance(age).await;
            assert_eq!(fixture.shed(), expected, "{requests} since {age:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_kept_while_they_progress_or_usages_do_not() {
        let after_progress = |parts: &'static [Part]| async move {
            let fixture = Fixture::new().queue(6);
            fixture.shedder.usage_accepted();
            fixture.shedder.usage_accepted();
            advance(STALL_TIMEOUT - TICK).await;
            parts.iter().for_each(|part| fixture.shedder.progress.progressed(*part, 1));
            advance(TICK).await;
            fixture.shed()
        };
        assert_eq!(after_progress(&[Part::Usage]).await, 6);
        assert_eq!(after_progress(&[Part::Request]).await, 0);
        assert_eq!(after_progress(&[]).await, 0);
        // Those of the blocked version don't progress.
        assert_eq!(after_progress(&[Part::Usage, Part::Request]).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_kept_while_none_is_queued_for_that_long() {
        let fixture = Fixture::new();
        advance(STALL_TIMEOUT).await;
        let fixture = fixture.queue(10);
        advance(STALL_TIMEOUT - TICK).await;
        assert_eq!(fixture.shed(), 0);
    }
}
