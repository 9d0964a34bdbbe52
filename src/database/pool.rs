//! A pool of connections.

use deadpool::{Runtime, managed};
use derive_setters::Setters;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::database::connect::ConnectOptions;
use crate::database::manager::Manager;
use crate::database::pooled_connection::PooledConnection;
use crate::error::{Cause, Error, Result};
use crate::sql::clock::clock;

/// A pool of connections. Clones share it.
///
/// Checking a connection out costs no round trip. A connection that was closed is never handed out
/// again.
///
/// # What a user leaves behind
///
/// Each user gets a connection as it was made. What its returned connection is checked for:
///
/// - A running statement, whose future was dropped: the server is asked to cancel it, and the
///   connection is closed. The next user waits for neither.
/// - An open transaction: the connection is closed, so that the server rolls back and releases the
///   locks.
/// - Settings, roles, advisory locks, `LISTEN`, cursors and temporary objects: a task resets the
///   session in one round trip before it returns to the pool. It does so after every statement
///   except `SELECT`, `INSERT`, `UPDATE`, `DELETE` and `MERGE` that call none but known functions,
///   and transactions. All of this crate's operations are such.
/// - `PREPARE`, `DEALLOCATE`, `DISCARD` and `LOAD`: the connection is closed.
///
/// Statements are seen by Diesel's instrumentation. A default one, set by
/// [`set_default_instrumentation`](diesel::connection::set_default_instrumentation), sees them too.
/// A connection on which a user sets another is closed when it returns.
///
/// Not seen are a trigger, rule or cast of the host's that changes a session, and the rows of a
/// query that was dropped after the first of them arrived: the next user waits for the rest.
///
/// ```no_run
/// use model_experiments::{ConnectOptions, Pool, PoolOptions, experiments, values::ExperimentId};
///
/// # async fn example(id: ExperimentId) -> model_experiments::Result<()> {
/// let connect = ConnectOptions::parse("postgres://gateway@db.example/app?sslmode=verify-full")?;
/// let pool = Pool::new(connect, PoolOptions::default().max_size(8))?;
/// let conn = &mut pool.get().await?;
/// let experiment = experiments::find(conn, id).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool(managed::Pool<Manager>);

/// The size and the timeouts of a [`Pool`].
#[derive(Debug, Clone, Setters)]
#[must_use]
pub struct PoolOptions {
    /// The most connections. The default is 10.
    max_size: usize,
    /// The longest wait for a free connection. The default is 5 seconds.
    wait_timeout: Duration,
    /// The longest time for making a connection. The default is 5 seconds.
    create_timeout: Duration,
    /// The longest time for preparing a connection for its next use. The default is 5 seconds.
    recycle_timeout: Duration,
}

/// The connections of a [`Pool`] at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// The most connections.
    pub max_size: usize,
    /// The connections, in use or free.
    pub size: usize,
    /// The free connections.
    pub available: usize,
    /// The callers that wait for a connection.
    pub waiting: usize,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            max_size: 10,
            wait_timeout: Duration::from_secs(5),
            create_timeout: Duration::from_secs(5),
            recycle_timeout: Duration::from_secs(5),
        }
    }
}

impl Pool {
    /// Makes a pool. It connects when a connection is asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] when the application name or the size can't be used.
    pub fn new(connect: ConnectOptions, options: PoolOptions) -> Result<Self> {
        connect.check()?;
        if options.max_size == 0 {
            return Err(Error::configuration("max_size must be at least 1"));
        }
        managed::Pool::builder(Manager(Arc::new(connect)))
            .max_size(options.max_size)
            .wait_timeout(Some(options.wait_timeout))
            .create_timeout(Some(options.create_timeout))
            .recycle_timeout(Some(options.recycle_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map(Pool)
            .map_err(|error| Error::configuration(Cause::of(error)))
    }

    /// A connection, when one is free.
    ///
    /// # Errors
    ///
    /// [`Error::Transient`] when none comes free in time or the server can't be reached,
    /// [`Error::Configuration`] when the server refuses the connection, [`Error::PoolClosed`].
    pub async fn get(&self) -> Result<PooledConnection> {
        let object = self.0.get().await.map_err(Error::from_pool)?;
        Ok(PooledConnection::new(object))
    }

    /// Checks that a connection can be had and that the server answers on it.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get), and [`Error::Transient`] when the connection turns out to be
    /// lost.
    pub async fn health(&self) -> Result<()> {
        let conn = &mut self.get().await?;
        clock(conn).await?;
        Ok(())
    }

    /// How many connections there are, and how many callers wait for one.
    pub fn status(&self) -> PoolStatus {
        let deadpool::Status { max_size, size, available, waiting, .. } = self.0.status();
        PoolStatus { max_size, size, available, waiting }
    }

    /// Closes the pool. No connection is handed out any more, and those in use are closed when they
    /// come back.
    pub fn close(&self) {
        self.0.close();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.status()).finish()
    }
}
