//! Makes the connections of a pool, and says which of them it may hand out again.

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::PoolableConnection;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

use crate::database::cancel::CancelRequest;
use crate::database::connect::{ConnectOptions, Connected, answered};
use crate::database::pooling::Pooling;
use crate::database::server::server_role;
use crate::database::session::{Condition, Session};
use crate::database::target::TargetSession;
use crate::error::{Error, Result};

/// The longest time for which a connection is taken to be alive since its last answer, and its
/// server to be of the kind that was asked for.
const TRUSTED_FOR: Duration = Duration::from_secs(5);

/// How much earlier than at the end of its lifetime a connection may be closed, so that those that
/// were made together aren't closed together.
const LIFETIME_JITTER: f64 = 0.1;

/// Makes connections as its options say.
pub(super) struct Manager {
    connect: Arc<ConnectOptions>,
    limits: Limits,
    /// Connections that haven't answered since are closed.
    distrusted_before: Mutex<Option<Instant>>,
}

/// How long a pool keeps a connection, and waits for one.
pub(super) struct Limits {
    pub(super) max_lifetime: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) recycle_timeout: Duration,
}

/// A connection whose session is watched.
pub(super) struct WatchedConnection {
    pub(super) conn: AsyncPgConnection,
    pub(super) connect: Arc<ConnectOptions>,
    pub(super) cancel: CancelRequest,
    pub(super) session: Session,
    pub(super) pooling: Pooling,
    max_lifetime: Duration,
    /// When the server was last seen to be of the kind that is asked for.
    checked_at: Instant,
}

impl WatchedConnection {
    /// Whether the next user may have the connection.
    pub(super) fn condition(&mut self) -> Condition {
        match self.session.condition() {
            // Also of a connection that was closed.
            Condition::Clean | Condition::Altered if self.conn.is_broken() => Condition::Unusable,
            condition => condition,
        }
    }
}

impl Manager {
    pub(super) fn new(connect: ConnectOptions, limits: Limits) -> Self {
        Self { connect: Arc::new(connect), limits, distrusted_before: Mutex::new(None) }
    }

    /// Whether the connection is past its lifetime, or was idle for too long.
    pub(super) fn is_expired(&self, watched: &WatchedConnection, metrics: &Metrics) -> bool {
        metrics.age() > watched.max_lifetime || metrics.last_used() > self.limits.idle_timeout
    }

    /// Has the idle connections closed, since one of them wasn't answered.
    pub(super) fn distrust(&self) {
        *self.distrusted_before.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Instant::now());
    }

    fn is_distrusted(&self, answered_at: Instant) -> bool {
        let before = *self.distrusted_before.lock().unwrap_or_else(PoisonError::into_inner);
        before.is_some_and(|before| answered_at < before)
    }

    /// Checks that the server answers, and is still of the kind that is asked for.
    async fn ping(&self, conn: &mut AsyncPgConnection) -> Result<()> {
        let role = answered(self.limits.recycle_timeout, server_role(conn)).await;
        let role = role.inspect_err(|_| self.distrust())?;
        let target = self.connect.target();
        if target.accepts(role) { Ok(()) } else { Err(target.mismatch()) }
    }
}

impl managed::Manager for Manager {
    type Type = WatchedConnection;
    type Error = Error;

    async fn create(&self) -> Result<WatchedConnection> {
        let Connected { conn, session, pooling, cancel } = self.connect.connect_session().await?;
        let jitter = LIFETIME_JITTER * fastrand::f64();
        let max_lifetime = self.limits.max_lifetime.mul_f64(1.0 - jitter);
        let connect = Arc::clone(&self.connect);
        Ok(WatchedConnection {
            conn,
            connect,
            cancel,
            session,
            pooling,
            max_lifetime,
            checked_at: Instant::now(),
        })
    }

    async fn recycle(
        &self,
        watched: &mut WatchedConnection,
        metrics: &Metrics,
    ) -> RecycleResult<Error> {
        match watched.condition() {
            Condition::Clean => {}
            // Its server went away, or the runtime ended before the connection was reset.
            condition => {
                return Err(RecycleError::message(format!("the connection is {condition:?}")));
            }
        }
        let answered_at = watched.session.answered_at();
        if self.is_expired(watched, metrics) || self.is_distrusted(answered_at) {
            return Err(RecycleError::message("the connection is not to be kept"));
        }
        let is_checked = self.connect.target() == TargetSession::Any
            || watched.checked_at.elapsed() <= TRUSTED_FOR;
        if !is_checked || answered_at.elapsed() > TRUSTED_FOR {
            self.ping(&mut watched.conn).await?;
            watched.checked_at = Instant::now();
        }
        Ok(())
    }
}
