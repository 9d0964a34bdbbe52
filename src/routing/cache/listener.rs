//! The connection on which notifications arrive.

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_postgres::{AsyncMessage, Client};

use crate::database::connect::{ConnectedClient, answered};
use crate::database::driver::Messages;
use crate::error::{Cause, Error, Result, Transient};
use crate::experiments::notify::CHANNEL;
use crate::routing::cache::pending::{Changed, Pending};

/// The pause between two heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// The longest time without an answer to a heartbeat.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that listens for notifications and asks for nothing else, so that a flood of them
/// delays no query.
///
/// diesel-async would queue notifications without bound. This connection is driven here: each
/// notification is looked at as it arrives, and a bounded set of ids is kept.
pub(super) struct Listener {
    messages: Messages,
    heartbeats: BoxStream<'static, Heartbeat>,
    /// When the last message arrived.
    heard_at: Instant,
    pending: Pending,
}

/// An empty statement, by which a connection is found out on which nothing arrives any more.
struct Heartbeat {
    sent_at: Instant,
    is_answered: bool,
}

impl Listener {
    /// Listens. A later load misses no change: what it doesn't see is notified.
    pub(super) async fn start(connected: ConnectedClient, within: Duration) -> Result<Self> {
        let ConnectedClient { client, messages, .. } = connected;
        let client = Arc::new(client);
        let mut listener = Self {
            messages,
            heartbeats: heartbeats(Arc::clone(&client)),
            heard_at: Instant::now(),
            pending: Pending::default(),
        };
        let listen = format!("LISTEN {CHANNEL}");
        let listening = async { client.batch_execute(&listen).await.map_err(lost) };
        answered(within, listener.beside(listening)).await?;
        Ok(listener)
    }

    /// The outcome of what is asked on another connection. Notifications are received meanwhile.
    pub(super) async fn beside<T>(&mut self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            answer = asked => answer,
            lost = self.receive_all() => lost.map(|never| match never {}),
        }
    }

    /// Waits for a notification, and at least until `earliest`.
    pub(super) async fn changed(&mut self, earliest: Instant) -> Result<Changed> {
        tokio::select! {
            biased;
            () = sleep_until(earliest.into()) => {}
            lost = self.receive_all() => match lost? {},
        }
        loop {
            if let Some(changed) = self.pending.take() {
                return Ok(changed);
            }
            self.receive().await?;
        }
    }

    /// Receives for as long as the connection lives.
    async fn receive_all(&mut self) -> Result<Infallible> {
        loop {
            self.receive().await?;
        }
    }

    /// Receives one message, or the answer to a heartbeat.
    async fn receive(&mut self) -> Result<()> {
        tokio::select! {
            // Answers to heartbeats arrive while messages are polled.
            biased;
            message = self.messages.next() => {
                let message = message.ok_or_else(ended)?.map_err(lost)?;
                self.heard_at = Instant::now();
                if let AsyncMessage::Notification(notification) = message {
                    self.pending.insert(notification.payload());
                }
            }
            Some(heartbeat) = self.heartbeats.next() => {
                // In a flood, the answer comes after the notifications before it.
                if !heartbeat.is_answered && self.heard_at < heartbeat.sent_at {
                    let cause = format!("no answer within {HEARTBEAT_TIMEOUT:?}");
                    return Err(Error::transient(Transient::ConnectionLost, cause));
                }
            }
        }
        Ok(())
    }
}

fn heartbeats(client: Arc<Client>) -> BoxStream<'static, Heartbeat> {
    let beat = async |client: Arc<Client>| {
        sleep(HEARTBEAT_INTERVAL).await;
        let sent_at = Instant::now();
        let answer = timeout(HEARTBEAT_TIMEOUT, client.batch_execute("")).await;
        Some((Heartbeat { sent_at, is_answered: matches!(answer, Ok(Ok(()))) }, client))
    };
    stream::unfold(client, beat).boxed()
}

fn ended() -> Error {
    Error::transient(Transient::ConnectionLost, "the server closed the connection")
}

fn lost(error: tokio_postgres::Error) -> Error {
    Error::transient(Transient::ConnectionLost, Cause::of(error))
}
