//! Recording in batches, behind a bounded queue.
//!
//! A record passes these files, in this order:
//!
//! 1. `intake` validates it and reserves capacity for it: `capacity` bounds what is held, and
//!    `shedder` drops stalled requests, by `progress`, when billing comes first.
//! 2. `pending_record` is the record from then on, until its receipt is answered.
//! 3. `queue` collects pending records into batches; `batch` bounds them.
//! 4. `writer` takes a batch from its `source`, and retries it until each record is settled, or is
//!    set aside in the `retry_queue`. `stage` starts the writers of each `part` of a record, with
//!    their `timeouts` and `stage_queues`; `shared` is what they share.
//! 5. `halving` writes a batch, and finds refused records by splitting it.
//! 6. `statement` runs one statement, and classifies its error.
//! 7. `receipt` tells the caller.
//!
//! `options` configures all of this; `metrics` counts it.

mod batch;
mod capacity;
mod halving;
mod intake;
mod metrics;
pub(super) mod options;
mod part;
mod pending_record;
mod progress;
mod queue;
pub(super) mod receipt;
mod retry_queue;
#[cfg(test)]
mod samples;
mod shared;
mod shedder;
mod source;
mod stage;
mod stage_queues;
mod statement;
mod timeouts;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::database::connect::{ConnectOptions, answered};
use crate::database::row_security::require_visible;
use crate::error::{Error, Result};
use crate::recording::recorder::capacity::Capacity;
use crate::recording::recorder::intake::Intake;
use crate::recording::recorder::options::RecorderOptions;
use crate::recording::recorder::part::Part;
use crate::recording::recorder::pending_record::PendingRecord;
use crate::recording::recorder::progress::Progress;
use crate::recording::recorder::receipt::{NotRecorded, Receipt};
use crate::recording::recorder::shared::Shared;
use crate::recording::recorder::shedder::Shedder;
use crate::recording::recorder::stage::Stage;
use crate::recording::recorder::stage_queues::StageQueues;
use crate::recording::recorder::timeouts::Timeouts;
use crate::recording::types::Record;

/// The tables that a recorder writes, and reads to compare.
const TABLES: [&str; 2] = ["microdollar_usage", "model_experiment_request"];

/// Records usages with their requests in batches, in the background.
///
/// A batch takes the records that arrived while the previous one was written. Each caller gets a
/// [`Receipt`], which resolves once its record is committed or has failed. Clones share one
/// recorder.
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
/// // Optional: the record is written whether or not its receipt is awaited.
/// let _outcome = receipt.await?;
///
/// for not_recorded in recorder.shutdown(Duration::from_secs(30)).await {
///     eprintln!("{not_recorded}"); // keep not_recorded.record, and record it later
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Guarantees
///
/// A receipt that resolves to [`Recorded`](crate::recording::Outcome::Recorded) or
/// [`AlreadyRecorded`](crate::recording::Outcome::AlreadyRecorded) means that the record is
/// committed, exactly once. Recording is idempotent by the usage's id, so a statement whose
/// connection was lost is retried safely.
///
/// Durability is that of PostgreSQL's commit: with `synchronous_commit = off`, a crash of the
/// server may lose acknowledged records.
///
/// Records are held in memory alone. A record whose receipt isn't resolved is lost with the
/// process.
///
/// # Retries
///
/// - **The server or the connection fails**: the batch is retried with exponential backoff, until
///   [`retry_for`](RecorderOptions::retry_for) after each record was accepted.
/// - **The database refuses a record**: the batch is halved until the record is found. Its receipt
///   resolves to the error, and the other records are written.
/// - **A record is blocked**, by a lock for more than two seconds: the records of its batch are
///   retried over another connection, each version's by themselves. Later records of a blocked
///   version join them, until one is recorded. So a locked version delays its own records alone.
/// - **The database refuses a record for a reason that may concern all**, as a trigger's exception
///   or a missing table: the record is retried alone. If it is refused twice while others are
///   recorded, its receipt resolves to the error. If none is recorded, all are kept until their
///   deadline.
///
/// # Capacity
///
/// What is held is bounded in [records](RecorderOptions::max_records) and in
/// [bytes](RecorderOptions::max_bytes). Without capacity, [`submit`](Self::submit) waits and
/// [`try_submit`](Self::try_submit) fails with [`Error::RecorderFull`]. Records of a blocked
/// version are taken only while half of the capacity is free.
///
/// # Shutdown
///
/// Call [`shutdown`](Self::shutdown) before the process ends. When the last clone is dropped
/// without it, an error is logged, and held records are written for as long as the runtime lives.
///
/// # Billing first
///
/// With [`billing_first`](RecorderOptions::billing_first), usages are written by themselves, and
/// each request after its usage was committed, over other connections. If only the request fails,
/// the receipt resolves to [`Error::NotAttributed`].
///
/// When more than half of the capacity is taken, queued requests are shed: all if no request was
/// written or failed for four seconds, and otherwise those that have waited as long for a locked
/// version. None is shed while usages are stalled too. They fail with
/// [`Error::NotAttributed`], with [`Error::RecorderFull`] as its reason. The
/// [loss ledger](crate::reports::loss_ledger) lists usages without a request, to attribute later.
///
/// # Metrics
///
/// Emitted through the `metrics` facade, to the metrics recorder installed when this one is
/// started. Names begin with `model_experiments_recorder`:
///
/// | Name                   | Kind      | Label     | Meaning                                     |
/// |------------------------|-----------|-----------|---------------------------------------------|
/// | `…_records_total`      | counter   | `outcome` | records by final outcome                    |
/// | `…_refused_total`      | counter   |           | records refused by `try_submit` when full   |
/// | `…_retries_total`      | counter   | `part`    | attempts that failed and were retried       |
/// | `…_held_records`       | gauge     |           | records queued or being written             |
/// | `…_held_bytes`         | gauge     |           | memory of the records held, in bytes        |
/// | `…_batch_records`      | histogram | `part`    | records in a batch                          |
/// | `…_batch_seconds`      | histogram | `part`    | time to write a batch, retries included     |
///
/// `outcome` is `recorded`, `already_recorded`, `not_attributed` or `failed`. `part` is `both`, or
/// `usage` and `request` with billing first.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    intake: Intake,
    capacity: Arc<Capacity>,
    queues: Vec<StageQueues>,
    writers: Mutex<JoinSet<Vec<PendingRecord>>>,
    stop: watch::Sender<bool>,
}

impl Recorder {
    /// Connects, and starts writing in tasks of the current runtime.
    ///
    /// # Errors
    ///
    /// - [`Error::Configuration`] when an option is out of its limits, or the server refuses the
    ///   role, password, database or certificate;
    /// - [`Error::RowsHidden`] when row-level security hides every row of a table from the role;
    /// - [`Error::Transient`] when the server can't be reached or takes no writes;
    /// - [`Error::Database`] when the server refuses the connection for another reason.
    ///
    /// # Cancellation
    ///
    /// Nothing is started before the connection is made. Dropping the future leaves nothing behind.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn start(connect: &ConnectOptions, options: RecorderOptions) -> Result<Self> {
        options.check()?;
        let connect = connect.clone().primary();
        let first = Timeouts::of_batches(&options).apply(&connect);
        let mut connected = first.connect_session().await?;
        let visible = require_visible(&mut connected.conn, &TABLES);
        answered(options.write_timeout, visible).await?;

        let is_billing_first = options.billing_first;
        let capacity = Arc::new(Capacity::new(&options));
        let progress = Arc::new(Progress::new());
        let (stop, stopped) = watch::channel(false);
        let shared = Shared {
            options,
            connect,
            capacity: Arc::clone(&capacity),
            progress: Arc::clone(&progress),
            stop: stopped,
        };

        let mut writers = JoinSet::new();
        let request_stage = is_billing_first
            .then(|| Stage::start(Part::Request, &shared, None, None, &mut writers));
        let part = if is_billing_first { Part::Usage } else { Part::Both };
        let first_stage =
            Stage::start(part, &shared, request_stage.as_ref(), Some(connected), &mut writers);

        let mut queues = vec![first_stage.queues.clone()];
        // Drops this sender of the request stage: it closes with the writers of the first one.
        let shedder = request_stage.map(|stage| {
            queues.push(stage.queues.clone());
            Shedder::new(Arc::clone(&capacity), progress, stage.queues)
        });
        let intake = Intake::new(Arc::clone(&capacity), shedder, first_stage);
        Ok(Self(Arc::new(Inner { intake, capacity, queues, writers: Mutex::new(writers), stop })))
    }

    /// Accepts a record, and waits until there is capacity for it.
    ///
    /// # Errors
    ///
    /// [`NotRecorded`] returns the record with its error. At once, with nothing written:
    ///
    /// - [`Error::Invalid`] when a text contains a NUL character or is too long;
    /// - [`Error::RecorderClosed`] after a shutdown, or after the runtime of the recorder has
    ///   ended.
    ///
    /// By the receipt:
    ///
    /// - [`Error::RecordedDifferently`] when the usage id was recorded with other content;
    /// - [`Error::VersionNotFound`] when there is no such version;
    /// - [`Error::UsageNotFound`] when the stored usage was deleted concurrently;
    /// - [`Error::UnknownConstraint`] when the host's own constraint refuses a row;
    /// - [`Error::Violated`] when another constraint of the schema refuses a row;
    /// - [`Error::Unreadable`] when the stored row can't be read;
    /// - [`Error::Database`] when the database refuses the record alone twice, and others not;
    /// - [`Error::Transient`], [`Error::Database`] or [`Error::Configuration`], of the last
    ///   attempt, when the record's deadline has passed;
    /// - [`Error::RecorderClosed`] when the shutdown's deadline has passed, or the runtime has
    ///   ended;
    /// - [`Error::NotAttributed`] with one of these, with [`Error::Invalid`] or with
    ///   [`Error::RecorderFull`] as its reason, when billing comes first and only the usage is
    ///   recorded.
    ///
    /// # Cancellation
    ///
    /// Dropping the future while it waits for capacity drops the record, and logs an error. Spawn
    /// it where the caller may be cancelled, or use [`try_submit`](Self::try_submit).
    pub async fn submit(&self, record: Record) -> Result<Receipt, NotRecorded> {
        self.0.intake.accept(record).await
    }

    /// Accepts a record if there is capacity for it now.
    ///
    /// # Errors
    ///
    /// As for [`submit`](Self::submit), and [`Error::RecorderFull`] at once when there is no
    /// capacity.
    pub fn try_submit(&self, record: Record) -> Result<Receipt, NotRecorded> {
        self.0.intake.try_accept(record)
    }

    /// Number of records held: queued or being written.
    pub fn len(&self) -> usize {
        self.0.capacity.held().records
    }

    /// Whether no record is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes the recorder, for all clones, and waits for held records up to `within`.
    ///
    /// Returns the records that aren't written by then; their receipts resolve to
    /// [`Error::RecorderClosed`] too, within [`Error::NotAttributed`] if the usage is committed. A
    /// record that fails earlier is reported by its receipt alone.
    ///
    /// Of concurrent calls, the shortest `within` applies, and one of them returns the unwritten
    /// records. A later call returns none.
    ///
    /// # Cancellation
    ///
    /// The recorder stays closed and keeps writing. The call may be repeated.
    pub async fn shutdown(&self, within: Duration) -> Vec<NotRecorded> {
        let inner = &self.0;
        inner.intake.close();
        let mut unwritten = Vec::new();
        if timeout(within, join(&inner.writers, &mut unwritten)).await.is_err() {
            inner.stop.send_replace(true);
            join(&inner.writers, &mut unwritten).await;
        }
        unwritten.extend(inner.queues.iter().flat_map(StageQueues::take_all));
        let fail = |record: &mut PendingRecord| record.fail_with_copy(Error::RecorderClosed);
        let not_recorded = unwritten.iter_mut().filter_map(fail).collect();
        drop(unwritten);
        inner.capacity.update_gauges();
        not_recorded
    }
}

/// Waits for all writers to end, and collects the records that they return.
async fn join(writers: &Mutex<JoinSet<Vec<PendingRecord>>>, unwritten: &mut Vec<PendingRecord>) {
    // A concurrent shutdown waits here, within its own time.
    let mut writers = writers.lock().await;
    while let Some(ended) = writers.join_next().await {
        // A writer that was aborted with its runtime has answered its records by dropping them.
        unwritten.extend(ended.unwrap_or_default());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let writers = self.writers.get_mut();
        if !writers.is_empty() {
            tracing::error!(
                records = self.capacity.held().records,
                "a recorder was dropped without shutdown: records held are lost when the runtime \
                 ends; await shutdown first"
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
