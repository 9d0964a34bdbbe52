//! The connections over which a cache follows the database.

use diesel_async::AsyncPgConnection;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::future::pending;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

use crate::database::connect::{ConnectOptions, Connected};
use crate::database::pooling::Pooling;
use crate::database::row_security::require_visible;
use crate::database::target::TargetSession;
use crate::error::{Error, Result, Transient};
use crate::routing::cache::listener::Listener;
use crate::routing::cache::options::RoutingOptions;
use crate::routing::cache::pending::Changed;

/// The tables that routing reads.
const TABLES: [&str; 3] =
    ["model_experiment", "model_experiment_variant", "model_experiment_variant_version"];

/// The pause between two searches for a primary, while a standby is followed.
const SEARCH_INTERVAL: Duration = Duration::from_secs(2);

/// A connection that loads, and one that listens where the server sends notifications.
pub(super) struct Link {
    connect: ConnectOptions,
    within: Duration,
    pub(super) conn: AsyncPgConnection,
    /// `None` where polls alone find changes.
    listener: Option<Listener>,
    /// Ends with a link to the primary, while a standby is followed.
    search: BoxFuture<'static, Link>,
}

/// What a link waited for.
pub(super) enum Event {
    /// Something was notified.
    Changed(Changed),
    /// A primary was found, and this is the link to it.
    Found(Box<Link>),
}

impl Link {
    /// Connects to the primary, and listens where it can; or to any server, if the options allow a
    /// standby.
    ///
    /// A later load misses no change: what it doesn't see is notified.
    pub(super) async fn start(connect: &ConnectOptions, options: &RoutingOptions) -> Result<Self> {
        let within = options.load_timeout;
        let connect = connect
            .clone()
            .connect_within(within)
            .statement_timeout(within)
            // The server would compile a large query anew each time, which takes longer than
            // running it.
            .session_setting("jit", "off");
        match Self::to_primary(&connect, within).await {
            Err(error) if options.allow_standby && error.is_retryable() => {
                Self::to_standby(connect, within).await
            }
            link => link,
        }
    }

    async fn to_primary(connect: &ConnectOptions, within: Duration) -> Result<Self> {
        let connect = connect.clone().primary();
        // Together, so that a host that says nothing is waited for once.
        let (Connected { conn, pooling, .. }, client) =
            tokio::try_join!(connect.connect_session(), connect.connect_client())?;
        let listener = match pooling {
            Pooling::None | Pooling::Session => Some(Listener::start(client, within).await?),
            Pooling::Transaction => {
                tracing::info!("routing follows by polls alone: a pooler shares its sessions");
                None
            }
        };
        let search = pending().boxed();
        Self { connect, within, conn, listener, search }.checked().await
    }

    async fn to_standby(connect: ConnectOptions, within: Duration) -> Result<Self> {
        let search = search(connect.clone(), within).boxed();
        let connect = connect.target_session(TargetSession::Any);
        let conn = connect.connect().await?;
        tracing::warn!("routing follows a standby, by polls alone, until there is a primary");
        Self { connect, within, conn, listener: None, search }.checked().await
    }

    /// Refuses a role that would see no row.
    async fn checked(mut self) -> Result<Self> {
        self.require_visible().await?;
        Ok(self)
    }

    /// Whether the server sends notifications.
    pub(super) fn is_listening(&self) -> bool {
        self.listener.is_some()
    }

    /// Refuses a role from which all rows of a table are hidden.
    pub(super) async fn require_visible(&mut self) -> Result<()> {
        self.ask(async |conn| require_visible(conn, &TABLES).await).await
    }

    /// The answer to what is asked. Notifications are received meanwhile.
    pub(super) async fn ask<T>(
        &mut self,
        ask: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T>,
    ) -> Result<T> {
        let answer = answered(self.within, ask(&mut self.conn));
        match &mut self.listener {
            Some(listener) => listener.beside(answer).await,
            None => answer.await,
        }
    }

    /// Waits for a notification, and at least until `earliest`; or for a primary.
    pub(super) async fn event(&mut self, earliest: Instant) -> Result<Event> {
        match &mut self.listener {
            Some(listener) => Ok(Event::Changed(listener.changed(earliest).await?)),
            None => Ok(Event::Found(Box::new((&mut self.search).await))),
        }
    }

    /// Connects anew to load. On the connection before, a statement may still be running.
    pub(super) async fn reconnect(&mut self) -> Result<()> {
        self.conn = self.connect.connect().await?;
        Ok(())
    }
}

/// Looks for a primary until there is one.
async fn search(connect: ConnectOptions, within: Duration) -> Link {
    loop {
        sleep(SEARCH_INTERVAL).await;
        match Link::to_primary(&connect, within).await {
            Ok(link) => return link,
            Err(error) => tracing::debug!(%error, "there is no primary yet"),
        }
    }
}

/// The answer, if it comes in time.
async fn answered<T>(within: Duration, asked: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(within, asked).await.unwrap_or_else(|_| {
        let cause = format!("no answer within {within:?}");
        Err(Error::transient(Transient::StatementTimeout, cause))
    })
}
