//! A stage: the queues and writers of one part of records.

use diesel_async::AsyncPgConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

use crate::recording::recorder::metrics::Metrics;
use crate::recording::recorder::part::Part;
use crate::recording::recorder::pending_record::PendingRecord;
use crate::recording::recorder::queue::{Queue, QueueSender};
use crate::recording::recorder::shared::Shared;
use crate::recording::recorder::writer::Writer;

/// Writes one part: a queue with batch writers, and a retry queue with one writer.
pub(super) struct Stage {
    pub(super) part: Part,
    pub(super) sender: Arc<QueueSender>,
    pub(super) metrics: Arc<Metrics>,
    queue: Arc<Queue>,
    retry_queue: Arc<Queue>,
}

impl Stage {
    /// Starts a stage; spawns its writers into `writers`.
    ///
    /// Records with a remaining part are sent to `next_stage`. The first writer takes over `conn`.
    pub(super) fn start(
        part: Part,
        shared: &Shared,
        next_stage: Option<&Stage>,
        mut conn: Option<AsyncPgConnection>,
        writers: &mut JoinSet<Vec<PendingRecord>>,
    ) -> Self {
        let metrics = Arc::new(Metrics::new(part));
        let queue = Arc::new(Queue::new(shared.options.max_batch, shared.options.max_delay));
        // Batches of one, so that a blocked record holds up no other.
        let retry_queue = Arc::new(Queue::new(1, Duration::ZERO));
        let retry_sender = Arc::new(QueueSender::new(Arc::clone(&retry_queue)));
        let next_sender = next_stage.map(|stage| &stage.sender);
        let writer = |queue: &Arc<Queue>| {
            let writer = Writer::new(shared.clone(), part, Arc::clone(&metrics), Arc::clone(queue));
            writer.forwarding_to(next_sender.cloned())
        };
        for _ in 0..shared.options.writers {
            let writer = writer(&queue).retrying_through(Arc::clone(&retry_sender));
            writers.spawn(writer.connected(conn.take()).run());
        }
        writers.spawn(writer(&retry_queue).run());
        let sender = Arc::new(QueueSender::new(Arc::clone(&queue)));
        Self { part, sender, metrics, queue, retry_queue }
    }

    /// The queue and the retry queue.
    pub(super) fn queues(&self) -> [Arc<Queue>; 2] {
        [Arc::clone(&self.queue), Arc::clone(&self.retry_queue)]
    }
}
