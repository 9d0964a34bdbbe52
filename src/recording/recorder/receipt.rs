//! What the caller gets: a receipt, which resolves to an outcome or to a record that wasn't
//! recorded.

use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::recording::types::{Outcome, Record};

/// Resolves once the record is committed or has failed.
///
/// # Errors
///
/// [`NotRecorded`] with the record and one of the errors that
/// [`Recorder::submit`](crate::Recorder::submit) lists for receipts.
///
/// # Cancellation
///
/// Dropping a receipt doesn't cancel the record. If the record then fails, an error is logged.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Answer>);

/// A record that isn't known to be recorded, and why.
///
/// Returned by [`submit`](crate::Recorder::submit) or [`try_submit`](crate::Recorder::try_submit),
/// it means that nothing was written. Returned by a receipt or by
/// [`shutdown`](crate::Recorder::shutdown), the record may have been written if the connection was
/// lost. Recording it again is idempotent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("recording usage {} failed: {error}", record.usage.id)]
pub struct NotRecorded {
    /// The record as it was submitted.
    pub record: Box<Record>,
    /// Why it wasn't recorded.
    #[source]
    pub error: Error,
}

/// What a receipt resolves to.
pub(super) type Answer = Result<Outcome, NotRecorded>;

impl Receipt {
    /// A receipt, and the sender of its answer.
    pub(super) fn channel() -> (oneshot::Sender<Answer>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }
}

impl Future for Receipt {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| match answer {
            Ok(answer) => answer,
            Err(_) => unreachable!("a pending record answers its receipt, at the latest on drop"),
        })
    }
}

impl From<NotRecorded> for Error {
    fn from(not_recorded: NotRecorded) -> Self {
        not_recorded.error
    }
}
