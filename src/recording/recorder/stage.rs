//! A stage: the queues and writers of one part of records.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::task::JoinSet;

use crate::database::connect::Connected;
use crate::recording::recorder::metrics::Metrics;
use crate::recording::recorder::part::Part;
use crate::recording::recorder::pending_record::PendingRecord;
use crate::recording::recorder::queue::{Queue, QueueSender};
use crate::recording::recorder::retry_queue::{RetryQueue, RetrySender};
use crate::recording::recorder::shared::Shared;
use crate::recording::recorder::source::Source;
use crate::recording::recorder::stage_queues::StageQueues;
use crate::recording::recorder::timeouts::Timeouts;
use crate::recording::recorder::writer::Writer;

/// Writes one part: a queue with batch writers, and a retry queue with one writer.
pub(super) struct Stage {
    pub(super) part: Part,
    pub(super) sender: Arc<QueueSender>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) queues: StageQueues,
}

impl Stage {
    /// Starts a stage; spawns its writers into `writers`.
    ///
    /// Records with a remaining part are sent to `next_stage`. The first writer takes over
    /// `connected`.
    pub(super) fn start(
        part: Part,
        shared: &Shared,
        next_stage: Option<&Stage>,
        mut connected: Option<Connected>,
        writers: &mut JoinSet<Vec<PendingRecord>>,
    ) -> Self {
        let options = &shared.options;
        let metrics = Arc::new(Metrics::new(part));
        let recorded = Arc::new(AtomicU64::new(0));
        let queue = Arc::new(Queue::new(options.max_batch, options.max_delay));
        let retry_queue = Arc::new(RetryQueue::new(options.max_batch, options.retry_for));
        let retry_sender = Arc::new(RetrySender::new(Arc::clone(&retry_queue)));
        let next_sender = next_stage.map(|stage| &stage.sender);
        let mut spawn = |source, timeouts, connected| {
            let writer = Writer::new(shared, part, &metrics, &recorded, source, timeouts);
            writers.spawn(writer.forwarding_to(next_sender.cloned()).connected(connected).run());
        };
        for _ in 0..options.writers {
            let (queue, retry_queue) = (Arc::clone(&queue), Arc::clone(&retry_sender));
            spawn(
                Source::Queue { queue, retry_queue },
                Timeouts::of_batches(options),
                connected.take(),
            );
        }
        spawn(Source::RetryQueue(Arc::clone(&retry_queue)), Timeouts::of_retries(options), None);
        let sender = Arc::new(QueueSender::new(Arc::clone(&queue)));
        Self { part, sender, metrics, queues: StageQueues { queue, retry_queue } }
    }
}
