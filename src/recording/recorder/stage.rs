//! The writers of a part, and the queues before them.

use diesel_async::AsyncPgConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::database::connect::ConnectOptions;
use crate::recording::recorder::capacity::Capacity;
use crate::recording::recorder::metrics::Metrics;
use crate::recording::recorder::options::RecorderOptions;
use crate::recording::recorder::pending::{Part, Row};
use crate::recording::recorder::queue::{Feed, Queue};
use crate::recording::recorder::writer::Writer;

/// What all lanes of a recorder share.
pub(super) struct Lanes {
    pub(super) options: RecorderOptions,
    pub(super) connect: ConnectOptions,
    pub(super) capacity: Arc<Capacity>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) writers: JoinSet<Vec<Row>>,
}

/// Where the rows of a part are written.
pub(super) struct Lane {
    pub(super) feed: Arc<Feed>,
    /// Of those that come, and of those that are tried row by row.
    pub(super) queues: [Arc<Queue>; 2],
    pub(super) metrics: Arc<Metrics>,
}

impl Lanes {
    /// Starts a lane whose rows go on to `next`. One of its writers has a connection already, if there is one.
    pub(super) fn start(
        &mut self,
        part: Part,
        next: Option<&Lane>,
        conn: Option<AsyncPgConnection>,
    ) -> Lane {
        let queue = Arc::new(Queue::new(self.options.max_batch, self.options.max_delay));
        // Row by row, so that none is in another's way.
        let queue_aside = Arc::new(Queue::new(1, Duration::ZERO));
        let aside = Arc::new(Feed::new(Arc::clone(&queue_aside)));
        let metrics = Arc::new(Metrics::new(part));
        let writer = |queue: &Arc<Queue>, aside: Option<&Arc<Feed>>| Writer {
            part,
            queue: Arc::clone(queue),
            next: next.map(|lane| Arc::clone(&lane.feed)),
            aside: aside.map(Arc::clone),
            pauses: None,
            capacity: Arc::clone(&self.capacity),
            connect: self.connect.clone(),
            conn: None,
            options: self.options.clone(),
            metrics: Arc::clone(&metrics),
            is_done: false,
        };
        let mut writers: Vec<_> =
            (0..self.options.writers).map(|_| writer(&queue, Some(&aside))).collect();
        if let Some(first) = writers.first_mut() {
            first.conn = conn;
        }
        writers.push(writer(&queue_aside, None));
        for writer in writers {
            self.writers.spawn(writer.run(self.stop.clone()));
        }
        let feed = Arc::new(Feed::new(Arc::clone(&queue)));
        Lane { feed, queues: [queue, queue_aside], metrics }
    }
}
