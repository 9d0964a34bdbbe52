//! A record between intake and receipt.

use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::recording::recorder::capacity::Reservation;
use crate::recording::recorder::metrics::Metrics;
use crate::recording::recorder::part::Part;
use crate::recording::recorder::receipt::{Answer, NotRecorded, Receipt};
use crate::recording::types::{Outcome, Record};

/// An accepted record whose receipt isn't answered.
///
/// Dropping it answers the receipt with [`Error::RecorderClosed`].
pub(super) struct PendingRecord {
    pub(super) record: Box<Record>,
    /// When it was accepted; its deadline counts from here.
    pub(super) accepted: Instant,
    /// The part that is still to be written; `None` once the receipt is answered.
    remaining: Option<Part>,
    reply: Option<oneshot::Sender<Answer>>,
    #[expect(dead_code, reason = "held for its drop")]
    reservation: Reservation,
    metrics: Arc<Metrics>,
}

impl PendingRecord {
    pub(super) fn new(
        record: Box<Record>,
        part: Part,
        reservation: Reservation,
        metrics: Arc<Metrics>,
    ) -> (Self, Receipt) {
        let (reply, receipt) = Receipt::channel();
        let pending = Self {
            record,
            accepted: Instant::now(),
            remaining: Some(part),
            reply: Some(reply),
            reservation,
            metrics,
        };
        (pending, receipt)
    }

    /// Memory that `record` occupies while it is pending, in bytes; releases its unused capacity.
    pub(super) fn held_size(record: &mut Record) -> u32 {
        let size = size_of::<Record>() + size_of::<Self>() + record.shrink_to_fit();
        u32::try_from(size).unwrap_or(u32::MAX)
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
            return;
        }
        self.remaining = None;
        // The receipt may have been dropped.
        let _ = self.answer(Ok(outcome));
        self.metrics.count_outcome(Ok(outcome));
    }

    /// Answers the receipt with `error`; nothing further is written.
    pub(super) fn fail(&mut self, error: Error) -> NotRecorded {
        let not_recorded = self.take_not_recorded(error);
        let is_received = self.answer(Err(not_recorded.clone())).is_ok();
        self.metrics.count_outcome(Err(&not_recorded.error));
        if !is_received {
            tracing::error!(
                usage = %not_recorded.record.usage.id,
                error = %not_recorded.error,
                "a record wasn't recorded, and its receipt was dropped; await it to record again"
            );
        }
        not_recorded
    }

    /// Ends the record with `error`; only its request has failed if its usage is committed.
    fn take_not_recorded(&mut self, error: Error) -> NotRecorded {
        let usage = self.record.usage.id;
        let error = match self.remaining.take() {
            Some(Part::Request) => Error::NotAttributed { usage, reason: Box::new(error) },
            _ => error,
        };
        NotRecorded { record: self.record.clone(), error }
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
            let not_recorded = self.take_not_recorded(Error::RecorderClosed);
            let _ = self.answer(Err(not_recorded));
        } else {
            self.fail(Error::RecorderClosed);
        }
    }
}
