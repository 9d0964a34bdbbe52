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
use super::capacity::Capacity;
use super::isolation::Statements;
use super::metrics::Metrics;
use super::queue::{Feed, Queue};
use super::row::{Part, Row};
use crate::connection::ConnectOptions;
use crate::error::{Error, Result, Transient};

/// How long to wait before the first repetition of a statement, and before a later one; jitter comes on top.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(2_500)];

/// How long a batch of requests may take when room is scarce, and how long to wait after a panic.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes one part of the rows of a queue, over a connection of its own.
pub(super) struct Writer {
    pub(super) part: Part,
    pub(super) queue: Arc<Queue>,
    /// Where rows go of which another part is left.
    pub(super) next: Option<Arc<Feed>>,
    /// Where rows go that others get past; they are tried again here where there is no such place.
    pub(super) aside: Option<Arc<Feed>>,
    pub(super) capacity: Arc<Capacity>,
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
        let all = async {
            // A metrics recorder or a tracing subscriber is the host's code, and may panic.
            while AssertUnwindSafe(self.write_all(&mut rows)).catch_unwind().await.is_err() {
                self.conn = None;
                sleep(PATIENCE).await;
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

    /// Writes all that comes, beginning with `rows`.
    async fn write_all(&mut self, rows: &mut Vec<Row>) {
        let (queue, capacity) = (Arc::clone(&self.queue), Arc::clone(&self.capacity));
        loop {
            if rows.is_empty() {
                let Some(next) = queue.next().await else { return };
                *rows = next;
            }
            let part = self.part;
            tokio::select! {
                () = self.write(rows) => {}
                () = crowded(part, &capacity) => self.make_way(rows),
            }
        }
    }

    /// Writes rows, again and again until each is written or has failed.
    async fn write(&mut self, rows: &mut Vec<Row>) {
        self.pass_on(rows);
        let start = Instant::now();
        self.metrics.batch_rows.record(rows.len() as f64);
        self.capacity.observe();
        let [first, later] = RETRY_AFTER;
        let backoff = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(later)
            .with_jitter()
            .without_max_times();
        for delay in backoff.build() {
            self.attempt(rows).await;
            self.capacity.observe();
            if rows.is_empty() {
                break;
            }
            sleep(delay.min(self.time_left(rows))).await;
        }
        self.metrics.batch_seconds.record(start.elapsed().as_secs_f64());
    }

    /// Writes rows once. Those that stay are to be tried again.
    async fn attempt(&mut self, rows: &mut Vec<Row>) {
        let written = self.statements(rows).await;
        self.pass_on(rows);
        let (error, is_servers) = match written {
            Ok(Err(error)) if !rows.is_empty() => (error, false),
            Ok(_) => return,
            Err(error) => (error, true),
        };
        if !keeps_connection(&error) {
            self.conn = None;
        }
        // Others may get through: those that wait have yet to be tried.
        self.give_up(rows, &error, is_servers || self.aside.is_none());
        if rows.is_empty() {
            return;
        }
        self.metrics.retries.increment(1);
        tracing::warn!(rows = rows.len(), %error, "recording is tried again");
        if let (false, Some(aside)) = (is_servers, &self.aside) {
            rows.drain(..).for_each(|row| aside.push(row));
        }
    }

    async fn statements(&mut self, rows: &mut [Row]) -> Result<Result<()>> {
        let timeout = self.options.write_timeout;
        let conn = match &mut self.conn {
            Some(conn) => conn,
            lost => lost.insert(self.connect.connect_within(timeout).await?),
        };
        Statements::new(conn, self.part, timeout).write(rows).await
    }

    /// Lets go of the rows of which this part is written, or which have failed.
    fn pass_on(&self, rows: &mut Vec<Row>) {
        for row in rows.extract_if(.., |row| row.left() != Some(self.part)) {
            if let (Some(next), Some(_)) = (&self.next, row.left()) {
                next.push(row);
            }
        }
    }

    /// Gives back the rows whose time is over, and those that still `wait`, if they are to.
    fn give_up(&self, rows: &mut Vec<Row>, error: &Error, wait: bool) {
        let Some(oldest) = Instant::now().checked_sub(self.options.retry_for) else { return };
        let mut old: Vec<Row> = rows.extract_if(.., |row| row.accepted <= oldest).collect();
        if wait {
            old.extend(self.queue.take_older(oldest));
        }
        if !old.is_empty() {
            tracing::error!(rows = old.len(), %error, "recording is given up");
        }
        for row in &mut old {
            row.failed(error.clone());
        }
    }

    /// Gives back all rows, those that wait too: what doesn't get on leaves its room to what is to be billed.
    fn make_way(&mut self, rows: &mut Vec<Row>) {
        // A statement may be under way.
        self.conn = None;
        self.pass_on(rows);
        let mut all: Vec<Row> = rows.drain(..).chain(self.queue.take_all()).collect();
        tracing::error!(rows = all.len(), "requests aren't attributed: usages need their room");
        for row in &mut all {
            row.failed(Error::RecorderFull);
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
            self.capacity.close();
            self.queue.close();
            drop(self.queue.take_all());
        }
    }
}

/// Resolves when requests have been under way for a while and room is scarce.
async fn crowded(part: Part, capacity: &Capacity) {
    if part != Part::Request {
        return pending().await;
    }
    loop {
        sleep(PATIENCE).await;
        if capacity.is_scarce() {
            return;
        }
    }
}

/// Whether the connection is as good as before. What is prepared on one may be why the server refuses a statement.
fn keeps_connection(error: &Error) -> bool {
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
        Writer {
            part: Part::Both,
            queue: Arc::new(Queue::new(&options)),
            next: None,
            aside: None,
            capacity: Arc::new(Capacity::new(&options)),
            connect: ConnectOptions::parse("postgres://db.example/app").unwrap(),
            conn: None,
            options,
            metrics: Arc::new(Metrics::new(Part::Both)),
            is_done: false,
        }
    }

    fn row(writer: &Writer, age: Duration) -> (Row, Receipt) {
        let request = NewRequest::new(seed::version(7), AllocationSubject::User);
        let record = Record::new(Usage::new("user-1"), request);
        let room = writer.capacity.try_room(1).unwrap();
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
        writer.give_up(&mut rows, &error, true);
        assert_eq!((rows.len(), writer.capacity.held()), (1, [2, 2]));
        for receipt in [of_old, of_older] {
            assert_eq!(receipt.now_or_never().unwrap().unwrap_err().error, error);
        }
        assert!([of_young, of_younger].into_iter().all(|receipt| receipt.now_or_never().is_none()));
    }
}
