//! Makes the connections of a pool, and says which of them it may hand out again.

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::PoolableConnection;
use std::sync::Arc;

use crate::database::connect::ConnectOptions;
use crate::database::session::{Condition, Session};
use crate::error::{Error, Result};

/// Makes connections as its options say.
pub(super) struct Manager(pub(super) Arc<ConnectOptions>);

/// A connection whose session is watched.
pub(super) struct WatchedConnection {
    pub(super) conn: AsyncPgConnection,
    pub(super) connect: Arc<ConnectOptions>,
    pub(super) session: Session,
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

impl managed::Manager for Manager {
    type Type = WatchedConnection;
    type Error = Error;

    async fn create(&self) -> Result<WatchedConnection> {
        let mut conn = self.0.connect().await?;
        let session = Session::watch(&mut conn);
        Ok(WatchedConnection { conn, connect: Arc::clone(&self.0), session })
    }

    async fn recycle(&self, watched: &mut WatchedConnection, _: &Metrics) -> RecycleResult<Error> {
        match watched.condition() {
            Condition::Clean => Ok(()),
            // Its server went away, or the runtime ended before the connection was reset.
            condition => Err(RecycleError::message(format!("the connection is {condition:?}"))),
        }
    }
}
