//! A record on its way, and what its caller holds of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::metrics::Metrics;
use crate::error::{Error, Result};
use crate::operations::record::{Outcome, Record};

/// Resolves to how recording ended: when it is committed, or when it failed for good.
///
/// Dropping it takes nothing back: the record is on its way.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Answer>);

/// A record that wasn't recorded, and why.
///
/// After [`Error::Transient`] and [`Error::RecorderClosed`] it isn't known whether it was, unless it comes from
/// [`try_record`](super::Recorder::try_record) or [`record`](super::Recorder::record) itself. Recording it again later is
/// harmless in any case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("usage {} wasn't recorded: {error}", record.usage.id)]
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
    room: Room,
    metrics: Arc<Metrics>,
}

/// The room that a record takes until it is recorded.
#[expect(dead_code, reason = "it is only held")]
pub(super) struct Room {
    pub(super) rows: OwnedSemaphorePermit,
    pub(super) bytes: OwnedSemaphorePermit,
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

    /// It waits elsewhere now.
    pub(super) fn moved(&mut self, room: Room) {
        self.room = room;
    }

    /// What was left of it is committed, or its usage is.
    pub(super) fn written(&mut self, outcome: Outcome) {
        match self.left {
            Some(Part::Usage) => self.left = Some(Part::Request),
            _ => {
                self.left = None;
                self.metrics.ended(Ok(outcome));
                // Whoever doesn't wait for it needs no answer.
                let _ = self.answer(Ok(outcome));
            }
        }
    }

    /// What is left of it won't be written.
    pub(super) fn failed(&mut self, error: Error) -> NotRecorded {
        let usage = self.record.usage.id;
        let error = match self.left.take() {
            Some(Part::Request) => Error::NotAttributed { usage, reason: Box::new(error) },
            _ => error,
        };
        self.metrics.ended(Err(&error));
        let not = NotRecorded { record: self.record.clone(), error };
        if self.answer(Err(not.clone())).is_err() {
            tracing::error!(%usage, error = %not.error, "a record wasn't recorded, and nobody waits for it");
        }
        not
    }

    /// Answers its caller, who may not wait any more.
    fn answer(&mut self, answer: Answer) -> Result<(), Answer> {
        self.reply.take().map_or(Ok(()), |reply| reply.send(answer))
    }
}

/// Whatever happens to a row, its caller hears of it.
impl Drop for Row {
    fn drop(&mut self) {
        if self.left.is_some() {
            self.failed(Error::RecorderClosed);
        }
    }
}
