//! Recording in batches, behind a bounded queue.

mod capacity;
mod halving;
mod intake;
mod metrics;
mod options;
mod pending;
mod queue;
mod stage;
mod writer;

pub use crate::recording::recorder::options::RecorderOptions;
pub use crate::recording::recorder::pending::{NotRecorded, Receipt};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::database::connect::ConnectOptions;
use crate::error::{Error, Result};
use crate::recording::recorder::capacity::Capacity;
use crate::recording::recorder::intake::Inlet;
use crate::recording::recorder::pending::{Part, Row};
use crate::recording::recorder::queue::Queue;
use crate::recording::recorder::stage::{Lane, Lanes};
use crate::recording::types::Record;

/// How long a statement waits for somebody else's lock before it is found out whose rows are concerned: longer than it
/// takes PostgreSQL to find a deadlock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Records usages with their requests in batches: whatever comes while one statement is under way is written by the next,
/// and each caller hears of its own record when that is committed.
///
/// A receipt that says [`Recorded`](crate::recording::Outcome::Recorded) or [`AlreadyRecorded`](crate::recording::Outcome::AlreadyRecorded) says that the record
/// is in the database, once. Trouble of the moment, as when the connection is lost or the server fails over, is waited out:
/// the statement is tried again, with growing pauses, until [`retry_for`](RecorderOptions::retry_for) is over for the record.
/// Where a connection was lost while a statement was under way, so that nobody knows whether it was committed, trying again
/// finds out: ids are made once. A record that the database refuses is found by halving its batch; its caller hears
/// of it, and the others are recorded. What waits for somebody else's lock for two seconds, as when another session holds the
/// id, or is refused for what may be the database's own trouble, as when a table is missing for a moment, is tried again row by
/// row, over another connection, and keeps nobody waiting.
///
/// What is held is bounded, in records and in bytes: when the database can't keep up or can't be reached, [`submit`](Self::submit)
/// waits for room and [`try_submit`](Self::try_submit) says [`Error::RecorderFull`]. It is held in memory alone: what has no
/// receipt's word yet is lost with the process, so call [`shutdown`](Self::shutdown) before it ends. Clones share one recorder.
/// When the last is dropped without a shutdown, an error is logged, and what is held is written in the background, for as
/// long as the runtime lives.
///
/// ```no_run
/// use model_experiments::recording::{NewRequest, Record, Usage};
/// use model_experiments::routing::Served;
/// use model_experiments::{ConnectOptions, Recorder, RecorderOptions};
/// use std::time::Duration;
///
/// # async fn serve(served: &Served) -> model_experiments::Result<()> {
/// let connect = ConnectOptions::parse("postgres://gateway@db.example/app?sslmode=verify-full")?;
/// let recorder = Recorder::start(&connect, RecorderOptions::default()).await?;
///
/// let usage = Usage { input_tokens: 1_200, output_tokens: 80, ..Usage::new("user-7") };
/// let request = NewRequest::served_by(served);
/// let receipt = recorder.submit(Record::new(usage, request)).await?;
/// // It will be recorded, whether or not anybody waits for that:
/// let _outcome = receipt.await?;
///
/// for lost in recorder.shutdown(Duration::from_secs(30)).await {
///     eprintln!("{lost}"); // and keep lost.record for later
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Billing first
///
/// With [`billing_first`](RecorderOptions::billing_first), usages are written by themselves, and each request after its
/// usage was committed, by other connections. What goes wrong with a request is [`Error::NotAttributed`] then: its usage is
/// recorded. When more than half of the room is taken and no request has got on for four seconds, while usages could, those that
/// wait make way, and come back with [`Error::RecorderFull`] as the reason. What wasn't attributed is listed by the
/// [loss ledger](crate::reports::loss_ledger), and can be attributed later.
///
/// # Durability
///
/// It is that of PostgreSQL's commit: with `synchronous_commit = off`, the server may lose in a crash what it
/// has acknowledged.
///
/// # Metrics
///
/// Through the `metrics` facade, to the recorder of metrics that is installed when it starts, where `…` stands for
/// `model_experiments_recorder`: the counters `…_records_total` with the label `outcome` (`recorded`, `already_recorded`,
/// `not_attributed`, `failed`), `…_refused_total` of records for which [`try_submit`](Self::try_submit) had no room, and
/// `…_retries_total`; the gauges `…_held_records` and `…_held_bytes` of what is held; and the histograms `…_batch_records` and
/// `…_batch_seconds`. Retries and batches have the label `part`: `both`, or `usage` and `request` where billing comes first.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    inlet: Inlet,
    capacity: Arc<Capacity>,
    queues: Vec<Arc<Queue>>,
    writers: Mutex<JoinSet<Vec<Row>>>,
    stop: watch::Sender<bool>,
}

impl Recorder {
    /// Connects, and writes in tasks of the current runtime from then on.
    ///
    /// # Errors
    ///
    /// - [`Error::Configuration`] when the URL or an option can't be used;
    /// - [`Error::Transient`] when the database can't be reached.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn start(connect: &ConnectOptions, options: RecorderOptions) -> Result<Self> {
        options.check()?;
        let lock_timeout = options.write_timeout.min(LOCK_TIMEOUT);
        let connect = connect
            .clone()
            .primary()
            .statement_timeout(options.write_timeout)
            .setting("lock_timeout", &lock_timeout.as_millis().max(1).to_string());
        let conn = connect.connect_within(options.write_timeout).await?;

        let (stop, told) = watch::channel(false);
        let is_billing_first = options.billing_first;
        let capacity = Arc::new(Capacity::new(&options));
        let mut lanes = Lanes {
            options,
            connect,
            capacity: Arc::clone(&capacity),
            stop: told,
            writers: JoinSet::new(),
        };
        let requests = is_billing_first.then(|| lanes.start(Part::Request, None, None));
        let part = if is_billing_first { Part::Usage } else { Part::Both };
        let Lane { feed, queues, metrics } = lanes.start(part, requests.as_ref(), Some(conn));
        let requests: Vec<_> = requests.into_iter().flat_map(|lane| lane.queues).collect();
        let queues = queues.into_iter().chain(requests.clone()).collect();
        let inlet = Inlet::new(Arc::clone(&capacity), feed, part, requests, metrics);
        let writers = Mutex::new(lanes.writers);
        Ok(Self(Arc::new(Inner { inlet, capacity, queues, writers, stop })))
    }

    /// Takes a record, as soon as there is room for it. The receipt resolves when it is committed, and may be dropped.
    ///
    /// A future that is dropped while it still waits for room drops its record too, and an error is logged: spawn it where
    /// its caller may be cancelled, or use [`try_submit`](Self::try_submit).
    ///
    /// # Errors
    ///
    /// At once, with nothing written:
    ///
    /// - [`Error::Invalid`] when a text contains a NUL character or is too long;
    /// - [`Error::RecorderClosed`] after a shutdown.
    ///
    /// By the receipt:
    ///
    /// - [`Error::RecordedDifferently`] when the usage id was recorded with other content;
    /// - [`Error::VersionNotFound`] when there is no such version, and what else the database refuses of this record;
    /// - [`Error::NotAttributed`] when only the usage could be recorded, where billing comes first;
    /// - [`Error::Transient`], or why else the last attempt failed, when the record's time was over, and
    ///   [`Error::RecorderClosed`] when that of the shutdown was.
    pub async fn submit(&self, record: Record) -> Result<Receipt, NotRecorded> {
        self.0.inlet.take(record).await
    }

    /// Takes a record if there is room for it at once.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit), and [`Error::RecorderFull`] when there is no room.
    pub fn try_submit(&self, record: Record) -> Result<Receipt, NotRecorded> {
        self.0.inlet.try_take(record)
    }

    /// How many records are waiting or being written.
    pub fn len(&self) -> usize {
        self.0.capacity.held()[0]
    }

    /// Whether no record is waiting or being written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes no more records, for all clones, and waits until those that it has are written, but not longer than `within`.
    /// Returns those that are left then; their receipts say the same. Of those that fail before, only their receipts say so.
    ///
    /// A second call returns none. Of several at a time, the shortest `within` holds, and one of them returns what isn't
    /// written. A call that is cancelled may be repeated.
    pub async fn shutdown(&self, within: Duration) -> Vec<NotRecorded> {
        let inner = &self.0;
        inner.inlet.close();
        let mut left = Vec::new();
        if timeout(within, join(&inner.writers, &mut left)).await.is_err() {
            inner.stop.send_replace(true);
            join(&inner.writers, &mut left).await;
        }
        left.extend(inner.queues.iter().flat_map(|queue| queue.take_all()));
        let not = left.iter_mut().map(|row| row.failed(Error::RecorderClosed)).collect();
        drop(left);
        inner.capacity.observe();
        not
    }
}

/// Waits for the writers to end, and takes what they have left.
async fn join(writers: &Mutex<JoinSet<Vec<Row>>>, left: &mut Vec<Row>) {
    // Whoever else shuts the recorder down waits here, within its own time.
    let mut writers = writers.lock().await;
    while let Some(ended) = writers.join_next().await {
        // One that was aborted with its runtime has dropped its rows, and so answered them.
        left.extend(ended.unwrap_or_default());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let writers = self.writers.get_mut();
        if !writers.is_empty() {
            tracing::error!(
                records = self.capacity.held()[0],
                "a recorder was dropped without shutdown: what it holds is lost when its runtime ends"
            );
            writers.detach_all();
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("len", &self.len()).finish_non_exhaustive()
    }
}
