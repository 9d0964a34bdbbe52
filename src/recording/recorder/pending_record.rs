//! A record between intake and receipt.

use std::mem::replace;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::recording::recorder::capacity::Reservation;
use crate::recording::recorder::metrics::Metrics;
use crate::recording::recorder::part::Part;
use crate::recording::recorder::receipt::{Answer, NotRecorded, Receipt};
use crate::recording::types::{Outcome, Record};

/// Memory that a pending record occupies beside its [`Record`], in bytes: itself, twice while a
/// queue grows, its receipt, and the rounding up of its allocations.
const OVERHEAD: usize = 2 * size_of::<PendingRecord>() + size_of::<Answer>() + 256;

/// An accepted record whose receipt isn't answered.
///
/// Dropping it answers the receipt with [`Error::RecorderClosed`].
pub(super) struct PendingRecord {
    /// Moves into the answer if it fails.
    record: Option<Box<Record>>,
    /// Memory that it occupies, in bytes.
    size: usize,
    /// When it was accepted; its deadline counts from here.
    pub(super) accepted: Instant,
    /// The part that is still to be written; `None` once the receipt is answered.
    remaining: Option<Part>,
    doubt: Doubt,
    reply: Option<oneshot::Sender<Answer>>,
    #[expect(dead_code, reason = "held for its drop")]
    reservation: Reservation,
    metrics: Arc<Metrics>,
}

/// What tells whether the database refuses this record, or can't write the part of any.
#[derive(Default)]
struct Doubt {
    /// Records that the stage had recorded when a statement with this one was first refused.
    recorded_before: Option<u64>,
    /// Whether the retry writer was refused this record alone.
    was_refused: bool,
}

impl PendingRecord {
    pub(super) fn new(
        record: Box<Record>,
        size: u32,
        part: Part,
        reservation: Reservation,
        metrics: Arc<Metrics>,
    ) -> (Self, Receipt) {
        let (reply, receipt) = Receipt::channel();
        let pending = Self {
            record: Some(record),
            size: size as usize,
            accepted: Instant::now(),
            remaining: Some(part),
            doubt: Doubt::default(),
            reply: Some(reply),
            reservation,
            metrics,
        };
        (pending, receipt)
    }

    /// Memory that `record` occupies while it is pending, in bytes; releases its unused capacity.
    pub(super) fn held_size(record: &mut Record) -> u32 {
        let size = size_of::<Record>() + OVERHEAD + record.shrink_to_fit();
        u32::try_from(size).unwrap_or(u32::MAX)
    }

    /// Memory that it occupies, in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The record, until it is settled.
    pub(super) fn record(&self) -> &Record {
        self.record.as_ref().expect("it moves into the answer, and isn't written after that")
    }

    /// The part that is still to be written.
    pub(super) fn remaining(&self) -> Option<Part> {
        self.remaining
    }

    /// Notes that `part` is committed; answers the receipt if nothing remains.
    pub(super) fn mark_written(&mut self, part: Part, outcome: Outcome) {
        if self.remaining != Some(part) {
            return;
        }
        if part == Part::Usage {
            self.remaining = Some(Part::Request);
            self.doubt = Doubt::default();
            return;
        }
        self.remaining = None;
        // The receipt may have been dropped.
        let _ = self.answer(Ok(outcome));
        self.metrics.count_outcome(Ok(outcome));
    }

    /// Notes that a statement with this record was refused when the stage had recorded `recorded`.
    pub(super) fn note_failure(&mut self, recorded: u64) {
        self.doubt.recorded_before.get_or_insert(recorded);
    }

    /// Whether the stage, which has recorded `recorded` by now, recorded others since then.
    pub(super) fn failed_while_others_were_recorded(&self, recorded: u64) -> bool {
        self.doubt.recorded_before.is_some_and(|before| before < recorded)
    }

    /// Notes that the retry writer was refused this record alone; returns whether it was before.
    pub(super) fn note_refusal(&mut self) -> bool {
        replace(&mut self.doubt.was_refused, true)
    }

    /// Answers the receipt with `error`; nothing further is written.
    pub(super) fn fail(&mut self, error: Error) {
        let Some(not_recorded) = self.take_not_recorded(error) else { return };
        let error = not_recorded.error.clone();
        let unreceived = self.answer(Err(not_recorded));
        self.metrics.count_outcome(Err(&error));
        if let Err(Err(not_recorded)) = unreceived {
            tracing::error!(
                usage = %not_recorded.record.usage.id,
                error = %not_recorded.error,
                "a record wasn't recorded, and its receipt was dropped; await it to record again"
            );
        }
    }

    /// Fails with `error`, and returns a copy of what the receipt is answered with.
    pub(super) fn fail_with_copy(&mut self, error: Error) -> Option<NotRecorded> {
        let not_recorded = self.take_not_recorded(error)?;
        let _ = self.answer(Err(not_recorded.clone()));
        self.metrics.count_outcome(Err(&not_recorded.error));
        Some(not_recorded)
    }

    /// Ends the record with `error`; only its request has failed if its usage is committed.
    fn take_not_recorded(&mut self, error: Error) -> Option<NotRecorded> {
        let record = self.record.take()?;
        let usage = record.usage.id;
        let error = match self.remaining.take() {
            Some(Part::Request) => Error::NotAttributed { usage, reason: Box::new(error) },
            _ => error,
        };
        Some(NotRecorded { record, error })
    }

    /// Sends the answer, once; returns it if the receipt was dropped.
    fn answer(&mut self, answer: Answer) -> Result<(), Answer> {
        self.reply.take().map_or(Ok(()), |reply| reply.send(answer))
    }
}

impl Drop for PendingRecord {
    fn drop(&mut self) {
        if self.remaining.is_none() {
            return;
        }
        if std::thread::panicking() {
            // The host's metrics or tracing code may have panicked: a second panic would abort.
            if let Some(not_recorded) = self.take_not_recorded(Error::RecorderClosed) {
                let _ = self.answer(Err(not_recorded));
            }
        } else {
            self.fail(Error::RecorderClosed);
        }
    }
}
