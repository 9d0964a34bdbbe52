//! The task that writes what waits.

use backon::ExponentialBackoff;
use diesel_async::AsyncPgConnection;
use futures_util::FutureExt;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::database::backoff::{RETRY_AFTER, backoff};
use crate::database::connect::ConnectOptions;
use crate::error::{Error, Result, Transient};
use crate::recording::recorder::capacity::Capacity;
use crate::recording::recorder::halving::Statements;
use crate::recording::recorder::metrics::Metrics;
use crate::recording::recorder::options::RecorderOptions;
use crate::recording::recorder::pending::{Part, Row};
use crate::recording::recorder::queue::{Feed, Queue};

/// Writes one part of the rows of a queue, over a connection of its own.
pub(super) struct Writer {
    pub(super) part: Part,
    pub(super) queue: Arc<Queue>,
    /// Where rows go of which another part is left.
    pub(super) next: Option<Arc<Feed>>,
    /// Where rows wait that are neither written nor refused, so that others aren't kept waiting. Where there is no such
    /// place, that is this writer's own queue.
    pub(super) aside: Option<Arc<Feed>>,
    /// How long this writer waits between rows as long as none is written.
    pub(super) pauses: Option<ExponentialBackoff>,
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
                sleep(RETRY_AFTER[1]).await;
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
        let queue = Arc::clone(&self.queue);
        let mut is_busy = false;
        loop {
            self.write(rows).await;
            let Some(next) = queue.next(is_busy).await else { return };
            *rows = next;
            is_busy = rows.len() > 1;
        }
    }

    /// Writes rows, again and again until each is written, has failed or waits elsewhere.
    async fn write(&mut self, rows: &mut Vec<Row>) {
        self.pass_on(rows);
        if rows.is_empty() {
            return;
        }
        let start = Instant::now();
        self.metrics.batch_records.record(rows.len() as f64);
        self.capacity.observe();
        let mut delays = backoff();
        loop {
            let before = rows.len();
            self.attempt(rows).await;
            self.capacity.observe();
            if rows.is_empty() {
                break;
            }
            if rows.len() < before {
                delays = backoff();
            }
            let delay = delays.next().unwrap_or(RETRY_AFTER[1]);
            sleep(delay.min(self.time_left(rows).max(RETRY_AFTER[0]))).await;
        }
        self.metrics.batch_seconds.record(start.elapsed().as_secs_f64());
    }

    /// Writes rows once. Those that stay are to be tried again.
    async fn attempt(&mut self, rows: &mut Vec<Row>) {
        let written = self.statements(rows).await;
        self.pass_on(rows);
        let (error, is_servers) = match written {
            Ok(Err(error)) if !rows.is_empty() => (error, false),
            Ok(_) => {
                self.pauses = None;
                return;
            }
            Err(error) => (error, true),
        };
        if !keeps_connection(&error) {
            self.conn = None;
        }
        // Where others may get through, those that wait have yet to be tried.
        self.give_up(rows, &error, is_servers);
        if rows.is_empty() {
            return;
        }
        self.metrics.retries.increment(1);
        tracing::warn!(rows = rows.len(), %error, "recording is tried again");
        if is_servers {
            return;
        }
        match &self.aside {
            Some(aside) => rows.drain(..).for_each(|row| aside.push(row)),
            None => {
                // Behind the others that are aside.
                self.queue.put_back(rows);
                let pause = self.pauses.get_or_insert_with(backoff).next();
                sleep(pause.unwrap_or(RETRY_AFTER[1])).await;
            }
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
        let before = rows.len();
        for row in rows.extract_if(.., |row| row.left() != Some(self.part)) {
            if let (Some(next), Some(_)) = (&self.next, row.left()) {
                next.push(row);
            }
        }
        self.capacity.got_on(self.part, before - rows.len());
    }

    /// Gives back the rows whose time is over; also those that wait, where `is_for_all`.
    fn give_up(&self, rows: &mut Vec<Row>, error: &Error, is_for_all: bool) {
        let Some(oldest) = Instant::now().checked_sub(self.options.retry_for) else { return };
        let mut old: Vec<Row> = rows.extract_if(.., |row| row.accepted <= oldest).collect();
        if is_for_all {
            old.extend(self.queue.take_older(oldest));
        }
        self.capacity.got_on(self.part, old.len());
        for row in &mut old {
            row.failed(error.clone());
        }
        if !old.is_empty() {
            tracing::error!(rows = old.len(), %error, "recording is given up");
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

/// Whether the connection is as good as before. What is prepared on one may be why the server refuses a statement.
fn keeps_connection(error: &Error) -> bool {
    match error {
        Error::Transient { kind, .. } => {
            kind.is_of_statement() || *kind == Transient::OutOfResources
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::recorder::pending::Receipt;
    use crate::recording::types::Record;
    use crate::registry::seed;
    use crate::tables::requests::NewRequest;
    use crate::tables::usages::Usage;
    use crate::values::AllocationSubject;

    fn writer(options: RecorderOptions) -> Writer {
        Writer {
            part: Part::Both,
            queue: Arc::new(Queue::new(512, Duration::ZERO)),
            next: None,
            aside: None,
            pauses: None,
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
        let error = Error::database("trouble");
        writer.give_up(&mut rows, &error, true);
        assert_eq!((rows.len(), writer.capacity.held()), (1, [2, 2]));
        for receipt in [of_old, of_older] {
            assert_eq!(receipt.now_or_never().unwrap().unwrap_err().error, error);
        }
        assert!([of_young, of_younger].into_iter().all(|receipt| receipt.now_or_never().is_none()));
    }
}
