//! The task that writes what waits.

use backon::{BackoffBuilder, ExponentialBuilder};
use diesel_async::AsyncPgConnection;
use futures_util::FutureExt;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::RecorderOptions;
use super::inlet::Inlet;
use super::isolation::Statements;
use super::metrics::Metrics;
use super::queue::Queue;
use super::row::{Part, Row};
use crate::connection::ConnectOptions;
use crate::error::{Error, Result, Transient};

/// How long to wait before the first repetition of a statement, and before a later one; jitter comes on top.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(2_500)];

/// Writes one part of the rows of a queue, over a connection of its own.
pub(super) struct Writer {
    pub(super) part: Part,
    pub(super) queue: Arc<Queue>,
    /// Where rows go of which another part is left.
    pub(super) next: Option<Arc<Inlet>>,
    pub(super) connect: ConnectOptions,
    pub(super) conn: Option<AsyncPgConnection>,
    pub(super) options: RecorderOptions,
    pub(super) metrics: Arc<Metrics>,
    /// Whether it has ended as it should.
    pub(super) is_done: bool,
}

impl Writer {
    /// Writes until the queue is closed and empty, or it is told to stop; returns the rows that it had taken and not
    /// written.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Vec<Row> {
        let mut rows = Vec::new();
        let queue = Arc::clone(&self.queue);
        let all = async {
            while let Some(next) = queue.next().await {
                rows = next;
                self.write(&mut rows).await;
            }
        };
        let told = async {
            if stop.wait_for(|stop| *stop).await.is_err() {
                // Nobody will.
                pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = told => {}
            () = all => {}
        }
        // Of a batch that was halved, some may be written.
        self.pass_on(&mut rows);
        self.is_done = true;
        rows
    }

    /// Writes rows, again and again until each is written or has failed.
    async fn write(&mut self, rows: &mut Vec<Row>) {
        let start = Instant::now();
        self.metrics.batch_rows.record(rows.len() as f64);
        self.queue.observe();
        let [first, later] = RETRY_AFTER;
        let backoff = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(later)
            .with_jitter()
            .without_max_times();
        for delay in backoff.build() {
            // A metrics recorder or a tracing subscriber is the host's code, and may panic.
            if AssertUnwindSafe(self.attempt(rows)).catch_unwind().await.is_err() {
                self.conn = None;
                self.give_up(rows, &Error::Database("writing panicked".to_owned()));
            }
            self.queue.observe();
            if rows.is_empty() {
                break;
            }
            sleep(delay.min(self.time_left(rows))).await;
        }
        self.metrics.batch_seconds.record(start.elapsed().as_secs_f64());
        self.queue.observe();
    }

    /// Writes rows once. Those that stay are to be tried again.
    async fn attempt(&mut self, rows: &mut Vec<Row>) {
        let written = self.statements(rows).await;
        self.pass_on(rows);
        if let Err(error) = written {
            if !is_over(&error) {
                self.conn = None;
            }
            self.give_up(rows, &error);
            if !rows.is_empty() {
                self.metrics.retries.increment(1);
                tracing::warn!(rows = rows.len(), %error, "recording is tried again");
            }
        }
    }

    async fn statements(&mut self, rows: &mut [Row]) -> Result<()> {
        let timeout = self.options.write_timeout;
        let conn = match &mut self.conn {
            Some(conn) => conn,
            lost => lost.insert(self.connect.connect_within(timeout).await?),
        };
        Statements { conn, part: self.part, timeout }.write(rows).await
    }

    /// Lets go of the rows of which this part is written, or which have failed.
    fn pass_on(&self, rows: &mut Vec<Row>) {
        for row in rows.extract_if(.., |row| row.left() != Some(self.part)) {
            if let (Some(next), Some(_)) = (&self.next, row.left()) {
                next.pass_on(row);
            }
        }
    }

    /// Gives back the rows whose time is over, also those that still wait.
    fn give_up(&self, rows: &mut Vec<Row>, error: &Error) {
        let Some(oldest) = Instant::now().checked_sub(self.options.retry_for) else { return };
        let waiting = self.queue.take_older(oldest);
        let rows = rows.extract_if(.., |row| row.accepted <= oldest);
        let mut old: Vec<Row> = rows.chain(waiting).collect();
        if !old.is_empty() {
            tracing::error!(rows = old.len(), %error, "recording is given up");
        }
        for row in &mut old {
            row.failed(error.clone());
        }
    }

    /// How long until the time of one of the rows is over.
    fn time_left(&self, rows: &[Row]) -> Duration {
        let oldest = rows.iter().map(|row| row.accepted).min();
        let age = oldest.map(|oldest| oldest.elapsed()).unwrap_or_default();
        self.options.retry_for.saturating_sub(age)
    }
}

/// A writer that is gone before its time, as when its runtime ends, writes nothing more: what waits is answered.
impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_done {
            self.queue.close();
            drop(self.queue.take_all());
        }
    }
}

/// Whether the server has ended the statement, so that the connection is as good as before.
fn is_over(error: &Error) -> bool {
    use Transient::{Cancelled, Deadlock, OutOfResources, SerializationFailure, StatementTimeout};
    let Error::Transient { cause, .. } = error else { return false };
    matches!(cause, Cancelled | Deadlock | OutOfResources | SerializationFailure | StatementTimeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::record::Record;
    use crate::recorder::row::Receipt;
    use crate::registry::seed;
    use crate::tables::{requests::NewRequest, usages::Usage};
    use crate::values::AllocationSubject;

    fn writer(options: RecorderOptions) -> Writer {
        let metrics = Arc::new(Metrics::new(Part::Both));
        Writer {
            part: Part::Both,
            queue: Arc::new(Queue::new(&options, Arc::clone(&metrics))),
            next: None,
            connect: ConnectOptions::parse("postgres://db.example/app").unwrap(),
            conn: None,
            options,
            metrics,
            is_done: false,
        }
    }

    fn row(writer: &Writer, age: Duration) -> (Row, Receipt) {
        let request = NewRequest::new(seed::version(7), AllocationSubject::User);
        let record = Record::new(Usage::new("user-1"), request);
        let room = writer.queue.try_room(1).unwrap();
        let (mut row, receipt) =
            Row::new(Box::new(record), Part::Both, room, Arc::clone(&writer.metrics));
        row.accepted -= age;
        (row, receipt)
    }

    #[test]
    fn only_those_whose_time_is_over_are_given_up() {
        let second = Duration::from_secs(1);
        let writer = writer(RecorderOptions::default().retry_for(second));
        let ages = [2 * second, Duration::ZERO];
        let [[(old, of_old), (young, of_young)], [(older, of_older), (younger, of_younger)]] =
            [ages, ages].map(|ages| ages.map(|age| row(&writer, age)));
        writer.queue.push(older);
        writer.queue.push(younger);
        let mut rows = vec![old, young];
        let error = Error::Database("trouble".to_owned());
        writer.give_up(&mut rows, &error);
        assert_eq!((rows.len(), writer.queue.held().0), (1, 2));
        for receipt in [of_old, of_older] {
            assert_eq!(receipt.now_or_never().unwrap().unwrap_err().error, error);
        }
        assert!([of_young, of_younger].into_iter().all(|receipt| receipt.now_or_never().is_none()));
    }
}
