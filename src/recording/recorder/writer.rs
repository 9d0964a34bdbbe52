//! The task that takes batches from a queue, and retries each until its records are settled.

use futures_util::FutureExt;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

use crate::database::backoff::{MAX_DELAY, MIN_DELAY, backoff};
use crate::database::connect::{ConnectOptions, Connected};
use crate::error::Error;
use crate::recording::recorder::halving::{BatchEnd, BatchState, write_batch};
use crate::recording::recorder::metrics::Metrics;
use crate::recording::recorder::part::Part;
use crate::recording::recorder::pending_record::PendingRecord;
use crate::recording::recorder::queue::QueueSender;
use crate::recording::recorder::retry_queue::Attempt;
use crate::recording::recorder::shared::Shared;
use crate::recording::recorder::source::Source;
use crate::recording::recorder::statement::Statement;
use crate::recording::recorder::timeouts::Timeouts;

/// Writes one part of the records of a queue, over a connection of its own.
pub(super) struct Writer {
    shared: Shared,
    connect: ConnectOptions,
    timeouts: Timeouts,
    part: Part,
    metrics: Arc<Metrics>,
    /// Number of records that all writers of the part have recorded.
    recorded: Arc<AtomicU64>,
    source: Source,
    /// Takes records with a remaining part.
    next_stage: Option<Arc<QueueSender>>,
    connected: Option<Connected>,
    /// Whether [`run`](Self::run) has returned the records that it took.
    has_ended: bool,
}

impl Writer {
    /// A writer of `part` that takes its batches from `source`, and connects when it needs to.
    pub(super) fn new(
        shared: &Shared,
        part: Part,
        metrics: &Arc<Metrics>,
        recorded: &Arc<AtomicU64>,
        source: Source,
        timeouts: Timeouts,
    ) -> Self {
        Self {
            shared: shared.clone(),
            connect: timeouts.apply(&shared.connect),
            timeouts,
            part,
            metrics: Arc::clone(metrics),
            recorded: Arc::clone(recorded),
            source,
            next_stage: None,
            connected: None,
            has_ended: false,
        }
    }

    /// Sends records with a remaining part to `next_stage`.
    pub(super) fn forwarding_to(mut self, next_stage: Option<Arc<QueueSender>>) -> Self {
        self.next_stage = next_stage;
        self
    }

    /// Begins with `connected`, if there is one.
    pub(super) fn connected(mut self, connected: Option<Connected>) -> Self {
        self.connected = connected;
        self
    }

    /// Writes until the queue is closed and empty, or it is stopped; returns the unwritten records.
    pub(super) async fn run(mut self) -> Vec<PendingRecord> {
        let mut records = Vec::new();
        let mut stop = self.shared.stop.clone();
        let write = async {
            // The host's metrics or tracing code may panic.
            while AssertUnwindSafe(self.write_queue(&mut records)).catch_unwind().await.is_err() {
                self.connected = None;
                sleep(MAX_DELAY).await;
            }
        };
        let stopped = async {
            if stop.wait_for(|stop| *stop).await.is_err() {
                // The recorder is gone, so nothing can stop this writer.
                pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = stopped => {}
            () = write => {}
        }
        // A batch that was being halved may be written in part.
        self.release_settled(&mut records);
        self.has_ended = true;
        records
    }

    /// Writes `records`, then one batch after the other.
    async fn write_queue(&mut self, records: &mut Vec<PendingRecord>) {
        let mut is_busy = false;
        loop {
            self.write(records).await;
            let Some(batch) = self.source.next_batch(is_busy).await else { return };
            *records = batch;
            is_busy = records.len() > 1;
        }
    }

    /// Writes a batch, and retries until each record is settled, forwarded or set aside.
    async fn write(&mut self, records: &mut Vec<PendingRecord>) {
        self.release_settled(records);
        if records.is_empty() {
            return;
        }
        let start = Instant::now();
        self.metrics.batch_records.record(records.len() as f64);
        self.shared.capacity.update_gauges();
        let mut delays = backoff();
        loop {
            let before = records.len();
            self.attempt(records).await;
            self.shared.capacity.update_gauges();
            if records.is_empty() {
                break;
            }
            if records.len() < before {
                delays = backoff();
            }
            let delay = delays.next().unwrap_or(MAX_DELAY);
            // A last attempt is due at the deadline.
            sleep(delay.min(self.until_deadline(records).max(MIN_DELAY))).await;
        }
        self.metrics.batch_seconds.record(start.elapsed().as_secs_f64());
    }

    /// Attempts a batch once; `records` keeps those to retry.
    async fn attempt(&mut self, records: &mut Vec<PendingRecord>) {
        let BatchEnd { state, has_recorded } = self.write_once(records).await;
        self.release_settled(records);
        let is_decisive = match state {
            BatchState::Settled => false,
            BatchState::Blocked(error) => {
                self.prepare_retry(records, &error, Source::take_blocked_accepted_by);
                false
            }
            BatchState::Ambiguous(error) => self.decide(records, &error),
            BatchState::ServerFailed(error) => {
                self.prepare_retry(records, &error, Source::take_accepted_by);
                return;
            }
        };
        self.source.put_back(records, Attempt { has_recorded, is_decisive });
    }

    /// Fails a record that the retry writer was refused alone for the second time, if others were
    /// recorded since a statement with it first failed. Otherwise the database may refuse all.
    ///
    /// Each refusal is over another connection, since it may be due to what was prepared on one.
    /// Returns whether the next refusal is decisive.
    fn decide(&mut self, records: &mut Vec<PendingRecord>, error: &Error) -> bool {
        let recorded = self.recorded.load(Ordering::SeqCst);
        let is_its_own = match (&self.source, &mut records[..]) {
            (Source::RetryQueue(_), [record]) => {
                let is_its_own = record.failed_while_others_were_recorded(recorded);
                if record.note_refusal() && is_its_own {
                    record.fail(error.clone());
                }
                is_its_own
            }
            _ => false,
        };
        self.release_settled(records);
        if !records.is_empty() {
            self.prepare_retry(records, error, Source::take_blocked_accepted_by);
        }
        is_its_own
    }

    /// Writes a batch over the connection, or over a new one if it was lost.
    async fn write_once(&mut self, records: &mut [PendingRecord]) -> BatchEnd {
        let connected = match &mut self.connected {
            Some(connected) => connected,
            lost => match self.connect.connect_session().await {
                Ok(connected) => lost.insert(connected),
                Err(error) => {
                    let state = BatchState::ServerFailed(error);
                    return BatchEnd { state, has_recorded: false };
                }
            },
        };
        let statement = Statement::new(connected, self.part, self.timeouts, &self.recorded);
        write_batch(statement, records).await
    }

    /// Drops a connection that may be broken, and fails records past their deadline.
    fn prepare_retry(
        &mut self,
        records: &mut Vec<PendingRecord>,
        error: &Error,
        take_queued: impl FnOnce(&Source, Instant) -> Vec<PendingRecord>,
    ) {
        if !keeps_connection(error) {
            self.connected = None;
        }
        self.expire(records, error, take_queued);
        if !records.is_empty() {
            self.metrics.retries.increment(1);
            tracing::warn!(
                records = records.len(),
                %error,
                "records couldn't be written, and will be retried"
            );
        }
    }

    /// Removes records of which this part is settled; forwards those with a remaining part.
    fn release_settled(&self, records: &mut Vec<PendingRecord>) {
        let before = records.len();
        for record in records.extract_if(.., |record| record.remaining() != Some(self.part)) {
            if let (Some(next_stage), Some(_)) = (&self.next_stage, record.remaining()) {
                next_stage.send(record);
            }
        }
        self.shared.progress.progressed(self.part, before - records.len());
    }

    /// Fails records past their deadline; also the queued ones that `take_queued` takes.
    fn expire(
        &self,
        records: &mut Vec<PendingRecord>,
        error: &Error,
        take_queued: impl FnOnce(&Source, Instant) -> Vec<PendingRecord>,
    ) {
        let retry_for = self.shared.options.retry_for;
        let Some(oldest) = Instant::now().checked_sub(retry_for) else { return };
        let mut expired: Vec<_> =
            records.extract_if(.., |record| record.accepted <= oldest).collect();
        expired.extend(take_queued(&self.source, oldest));
        self.shared.progress.progressed(self.part, expired.len());
        for record in &mut expired {
            record.fail(error.clone());
        }
        if !expired.is_empty() {
            tracing::error!(
                records = expired.len(),
                %error,
                "records weren't written before their deadline; their receipts return them"
            );
        }
    }

    /// Time until the first deadline of `records`.
    fn until_deadline(&self, records: &[PendingRecord]) -> Duration {
        let oldest = records.iter().map(|record| record.accepted).min();
        let age = oldest.map(|oldest| oldest.elapsed()).unwrap_or_default();
        self.shared.options.retry_for.saturating_sub(age)
    }
}

/// A writer that ends early, as when its runtime does, closes its queue and answers all receipts.
impl Drop for Writer {
    fn drop(&mut self) {
        if !self.has_ended {
            self.shared.capacity.close();
            self.source.abandon();
        }
    }
}

/// Whether the connection may be used again after `error`.
///
/// A failed statement that isn't transient may be due to what was prepared on this connection.
fn keeps_connection(error: &Error) -> bool {
    matches!(error, Error::Transient { .. }) && !error.ends_connection()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::connect::ConnectOptions;
    use crate::recording::recorder::capacity::{Capacity, Held};
    use crate::recording::recorder::options::RecorderOptions;
    use crate::recording::recorder::progress::Progress;
    use crate::recording::recorder::queue::Queue;
    use crate::recording::recorder::receipt::Receipt;
    use crate::recording::recorder::retry_queue::{RetryQueue, RetrySender};
    use crate::recording::recorder::samples::sample;
    use crate::registry::seed;
    use tokio::sync::watch;

    fn writer(options: RecorderOptions) -> (Writer, Arc<Queue>) {
        let timeouts = Timeouts::of_batches(&options);
        let shared = Shared {
            connect: ConnectOptions::parse("postgres://db.example/app").unwrap(),
            capacity: Arc::new(Capacity::new(&options)),
            progress: Arc::new(Progress::new()),
            options,
            stop: watch::channel(false).1,
        };
        let queue = Arc::new(Queue::new(512, Duration::ZERO));
        let retry_queue = Arc::new(RetryQueue::new(512, Duration::ZERO));
        let source = Source::Queue {
            queue: Arc::clone(&queue),
            retry_queue: Arc::new(RetrySender::new(retry_queue)),
        };
        let metrics = Arc::new(Metrics::new(Part::Both));
        let recorded = Arc::new(AtomicU64::new(0));
        (Writer::new(&shared, Part::Both, &metrics, &recorded, source, timeouts), queue)
    }

    fn pending(writer: &Writer, age: Duration) -> (PendingRecord, Receipt) {
        sample(&writer.shared.capacity, seed::version(7), 1, age)
    }

    #[test]
    fn only_records_past_their_deadline_expire() {
        let second = Duration::from_secs(1);
        let (writer, queue) = writer(RecorderOptions::default().retry_for(second));
        let ages = [2 * second, Duration::ZERO];
        let [[(old, of_old), (young, of_young)], [(older, of_older), (younger, of_younger)]] =
            [ages, ages].map(|ages| ages.map(|age| pending(&writer, age)));
        queue.push(older);
        queue.push(younger);
        let mut records = vec![old, young];
        let error = Error::database("trouble");
        writer.expire(&mut records, &error, Source::take_accepted_by);
        assert_eq!(records.len(), 1);
        assert_eq!(writer.shared.capacity.held(), Held { records: 2, bytes: 2 });
        for receipt in [of_old, of_older] {
            assert_eq!(receipt.now_or_never().unwrap().unwrap_err().error, error);
        }
        assert!([of_young, of_younger].into_iter().all(|receipt| receipt.now_or_never().is_none()));
    }
}
