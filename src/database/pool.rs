//! A pool of connections.

use deadpool::Runtime;
use deadpool::managed::{self, Timeouts};
use derive_setters::Setters;
use std::fmt;
use std::time::Duration;

use crate::database::connect::{ConnectOptions, answered};
use crate::database::manager::{Limits, Manager};
use crate::database::pooled_connection::PooledConnection;
use crate::database::server::{ServerRole, server_role};
use crate::error::{Cause, Error, Result};

/// The longest wait for the server's answer about its health.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(4);

/// The longest wait for a free connection by which to ask for it.
const HEALTH_WAIT_TIMEOUT: Duration = Duration::from_secs(3);

/// A pool of connections. Clones share it.
///
/// Checking a connection out costs no round trip, unless it was idle for 5 seconds: then the server
/// must answer first. Where [`target_session`](ConnectOptions::target_session) asks for a kind of
/// server, as it does by default where the URL names several hosts, the server is also asked every
/// 5 seconds whether it is still such. A connection is never handed out again that was closed or
/// wasn't answered in time, nor one on which an operation of this crate was told that the server
/// takes no writes.
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
/// query that was dropped after the first of them arrived: the next user waits for the rest. A
/// query that Diesel couldn't build counts as running.
///
/// Behind a pooler that shares a session between transactions, what alters one reaches others'
/// transactions, and can't be undone from here: the connection is closed, and a warning logged.
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
    /// The longest time for making a connection, to whichever host. By default each address has the
    /// `connect_timeout` of its own.
    #[setters(strip_option)]
    create_timeout: Option<Duration>,
    /// The longest wait for the answer of a connection that was idle for 5 seconds, before it is
    /// handed out. The default is 2 seconds.
    recycle_timeout: Duration,
    /// The longest time for which a connection is kept. The default is 30 minutes. Some are closed
    /// up to a tenth earlier.
    max_lifetime: Duration,
    /// The longest time for which a connection is kept unused, until the next one is asked for. The
    /// default is 10 minutes.
    idle_timeout: Duration,
}

/// What a server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether it takes writes: it is no standby, and its transactions aren't read-only by default.
    pub takes_writes: bool,
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
            create_timeout: None,
            recycle_timeout: Duration::from_secs(2),
            max_lifetime: Duration::from_secs(30 * 60),
            idle_timeout: Duration::from_secs(10 * 60),
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
        let limits = Limits {
            max_lifetime: options.max_lifetime,
            idle_timeout: options.idle_timeout,
            recycle_timeout: options.recycle_timeout,
        };
        managed::Pool::builder(Manager::new(connect, limits))
            .max_size(options.max_size)
            .wait_timeout(Some(options.wait_timeout))
            .create_timeout(options.create_timeout)
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
        self.get_within(self.0.timeouts()).await
    }

    async fn get_within(&self, timeouts: Timeouts) -> Result<PooledConnection> {
        let manager = self.0.manager();
        self.0.retain(|watched, metrics| !manager.is_expired(watched, &metrics));
        let object = self.0.timeout_get(&timeouts).await.map_err(Error::from_pool)?;
        Ok(PooledConnection::new(object))
    }

    /// Checks that a connection can be had and that the server answers on it, within 4 seconds.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get), and [`Error::Transient`] when the server doesn't answer in time
    /// or the connection turns out to be lost.
    pub async fn health(&self) -> Result<Health> {
        let pool = self.clone();
        // What takes longer goes on, so that the connection is there for the next call.
        let check = tokio::spawn(async move {
            let mut timeouts = pool.0.timeouts();
            // A pool that is merely busy says so.
            timeouts.wait = timeouts.wait.map(|wait| wait.min(HEALTH_WAIT_TIMEOUT));
            let conn = &mut pool.get_within(timeouts).await?;
            let ServerRole { is_standby, is_read_only } =
                answered(HEALTH_TIMEOUT, server_role(conn)).await?;
            Ok(Health { takes_writes: !is_standby && !is_read_only })
        });
        let joined = async { check.await.map_err(|error| Error::database(Cause::of(error)))? };
        answered(HEALTH_TIMEOUT, joined).await.inspect_err(|error| {
            if error.ends_connection() {
                self.0.manager().distrust();
            }
        })
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
