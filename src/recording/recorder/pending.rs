//! A record on its way, and what its caller holds of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::recording::recorder::capacity::Room;
use crate::recording::recorder::metrics::Metrics;
use crate::recording::types::{Outcome, Record};

/// Resolves to how recording ended: when it is committed, or when it failed for good.
///
/// Dropping it takes nothing back: the record is on its way.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Answer>);

/// A record that isn't known to be recorded, and why.
///
/// Only of one that comes from [`submit`](super::Recorder::submit) or [`try_submit`](super::Recorder::try_submit) itself is it
/// certain that nothing was written. Recording it again later is harmless in any case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("recording usage {} failed: {error}", record.usage.id)]
pub struct NotRecorded {
    /// The record as it was given.
    pub record: Box<Record>,
    /// Why it wasn't recorded.
    #[source]
    pub error: Error,
}

type Answer = Result<Outcome, NotRecorded>;

/// What of a record a statement writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Both,
    /// The usage alone; its request follows.
    Usage,
    /// The request of a usage that is written.
    Request,
}

/// A record on its way.
pub(super) struct Row {
    pub(super) record: Box<Record>,
    pub(super) accepted: Instant,
    /// What is left to write of it.
    left: Option<Part>,
    reply: Option<oneshot::Sender<Answer>>,
    #[expect(dead_code, reason = "it is only held")]
    room: Room,
    metrics: Arc<Metrics>,
}

/// How much memory `record` takes while it is on its way, in bytes. It gives back what it doesn't use.
pub(super) fn size(record: &mut Record) -> u32 {
    let size = size_of::<Record>() + size_of::<Row>() + record.shrink_to_fit();
    u32::try_from(size).unwrap_or(u32::MAX)
}

impl Future for Receipt {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| match answer {
            Ok(answer) => answer,
            Err(_) => unreachable!("every row is answered, at the latest when it is dropped"),
        })
    }
}

impl From<NotRecorded> for Error {
    fn from(not: NotRecorded) -> Self {
        not.error
    }
}

impl Row {
    pub(super) fn new(
        record: Box<Record>,
        part: Part,
        room: Room,
        metrics: Arc<Metrics>,
    ) -> (Self, Receipt) {
        let (reply, receipt) = oneshot::channel();
        let (accepted, left, reply) = (Instant::now(), Some(part), Some(reply));
        (Self { record, accepted, left, reply, room, metrics }, Receipt(receipt))
    }

    /// What is left to write of it.
    pub(super) fn left(&self) -> Option<Part> {
        self.left
    }

    /// `part` of it is committed.
    pub(super) fn written(&mut self, part: Part, outcome: Outcome) {
        if self.left != Some(part) {
            return;
        }
        if part == Part::Usage {
            self.left = Some(Part::Request);
            return;
        }
        self.left = None;
        // Whoever doesn't wait for it needs no answer.
        let _ = self.answer(Ok(outcome));
        self.metrics.ended(Ok(outcome));
    }

    /// What is left of it won't be written.
    pub(super) fn failed(&mut self, error: Error) -> NotRecorded {
        let not = self.not_recorded(error);
        let is_heard = self.answer(Err(not.clone())).is_ok();
        self.metrics.ended(Err(&not.error));
        if !is_heard {
            let usage = not.record.usage.id;
            tracing::error!(%usage, error = %not.error, "a record wasn't recorded, and nobody waits for it");
        }
        not
    }

    fn not_recorded(&mut self, error: Error) -> NotRecorded {
        let usage = self.record.usage.id;
        let error = match self.left.take() {
            Some(Part::Request) => Error::NotAttributed { usage, reason: Box::new(error) },
            _ => error,
        };
        NotRecorded { record: self.record.clone(), error }
    }

    /// Answers its caller, who may not wait any more.
    fn answer(&mut self, answer: Answer) -> Result<(), Answer> {
        self.reply.take().map_or(Ok(()), |reply| reply.send(answer))
    }
}

/// Whatever happens to a row, its caller hears of it.
impl Drop for Row {
    fn drop(&mut self) {
        if self.left.is_none() {
            return;
        }
        if std::thread::panicking() {
            // It is the host's code that panicked, if any, and must not be called again from here.
            let not = self.not_recorded(Error::RecorderClosed);
            let _ = self.answer(Err(not));
        } else {
            self.failed(Error::RecorderClosed);
        }
    }
}
