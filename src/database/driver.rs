//! The task that drives a connection, and closes it when the server is silent.

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use std::future::pending;
use std::pin::pin;
use tokio::time::Instant;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Connection, Socket};
use tracing::{debug, warn};

use crate::database::session::{Session, Silence};
use crate::error::{Cause, Error, Result, Transient};

/// What the server says unasked. Polling it drives the connection.
pub(crate) type Messages = BoxStream<'static, Result<AsyncMessage, tokio_postgres::Error>>;

/// Asks a server over another connection whether it is silent.
pub(super) type Inquiry = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// The messages of a connection.
pub(super) fn messages<S>(mut connection: Connection<Socket, S>) -> Messages
where
    S: TlsStream + Unpin + Send + 'static,
{
    stream::poll_fn(move |context| connection.poll_message(context)).boxed()
}

/// Drives a connection while `asked` waits for an answer on it.
pub(super) async fn drive_during<T>(
    messages: &mut Messages,
    asked: impl Future<Output = Result<T>>,
) -> Result<T> {
    let ended = async {
        loop {
            match messages.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    break Error::transient(Transient::ConnectionLost, Cause::of(error));
                }
                None => break Error::transient(Transient::ConnectionLost, "the server hung up"),
            }
        }
    };
    let mut asked = pin!(asked);
    tokio::select! {
        biased;
        answer = &mut asked => answer,
        // The server says why before it hangs up.
        error = ended => asked.now_or_never().unwrap_or(Err(error)),
    }
}

/// Drives a connection in a task until it ends, the server is silent, or it is dropped within a
/// statement.
///
/// diesel-async's own task can't be ended from outside, and a statement on a silent connection
/// would wait without end.
///
/// `is_silent` asks the server over another connection.
pub(super) fn spawn(mut messages: Messages, session: Session, is_silent: Option<Inquiry>) {
    tokio::spawn(async move {
        let ended = async {
            while let Some(message) = messages.next().await {
                if let Err(error) = message {
                    debug!(%error, "a connection ended");
                    break;
                }
            }
        };
        let closed = async {
            let mut inquiry: Option<(Instant, BoxFuture<'static, bool>)> = None;
            loop {
                let answer = async {
                    match &mut inquiry {
                        Some((since, is_silent)) => (*since, is_silent.await),
                        None => pending().await,
                    }
                };
                tokio::select! {
                    silence = session.silence() => match silence {
                        Silence::Unanswered(limit) => {
                            break warn!(
                                "a statement isn't answered within {limit:?}; its connection is closed"
                            );
                        }
                        Silence::Abandoned => break,
                        Silence::Overdue(since) => {
                            if inquiry.is_none() {
                                inquiry = is_silent.as_ref().map(|ask| (since, ask()));
                            }
                        }
                    },
                    (since, is_silent) = answer => {
                        inquiry = None;
                        if is_silent && session.mark_silent(since) {
                            break warn!("the server is silent; a connection to it is closed");
                        }
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = ended => {}
            () = closed => {}
        }
    });
}
