//! A pool of connections.

mod connection;

pub use self::connection::PooledConnection;

use deadpool::Runtime;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::Pool as Deadpool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use futures_util::FutureExt;
use std::fmt;
use std::time::Duration;

use crate::connection::ConnectOptions;
use crate::error::{Error, Result};
use crate::tables::clock;

/// A pool of connections. Clones share it.
///
/// Checking a connection out costs no round trip. One that was closed, or that a cancelled future left
/// inside a transaction, is never handed out again.
///
/// ```no_run
/// use model_experiments::{Pool, tables::experiments, values::ExperimentId};
///
/// # async fn example(id: ExperimentId) -> model_experiments::Result<()> {
/// let pool = Pool::builder("postgres://gateway@db.example/app?sslmode=verify-full")
///     .max_size(8)
///     .application_name("gateway")
///     .build()?;
/// let conn = &mut pool.get().await?;
/// let experiment = experiments::find(conn, id).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool(Deadpool<AsyncPgConnection>);

/// How a [`Pool`] is to be made.
#[derive(Clone)]
#[must_use]
pub struct PoolBuilder {
    url: String,
    max_size: usize,
    wait_timeout: Duration,
    create_timeout: Duration,
    recycle_timeout: Duration,
    statement_timeout: Option<Duration>,
    application_name: Option<String>,
}

impl Pool {
    /// A pool of connections to `url`.
    ///
    /// The URL is PostgreSQL's own. Its `sslmode` is one of `disable`, `prefer` (the default),
    /// `require`, `verify-ca` and `verify-full`; its `sslrootcert` names a file of PEM certificates to
    /// trust in place of the system's. As with libpq, `require` with such a file verifies the chain,
    /// `sslrootcert=system` asks for `verify-full`, and a Unix socket is never encrypted. For `verify-full` the
    /// server's certificate must have the host among its subject alternative names.
    pub fn builder(url: impl Into<String>) -> PoolBuilder {
        PoolBuilder {
            url: url.into(),
            max_size: 10,
            wait_timeout: Duration::from_secs(5),
            create_timeout: Duration::from_secs(5),
            recycle_timeout: Duration::from_secs(5),
            statement_timeout: None,
            application_name: None,
        }
    }

    /// A connection, when one is free.
    ///
    /// # Errors
    ///
    /// [`Error::Transient`] when none comes free in time or the server can't be reached,
    /// [`Error::Configuration`] when it won't let us in, [`Error::PoolClosed`].
    pub async fn get(&self) -> Result<PooledConnection> {
        Ok(PooledConnection::new(self.0.get().await?))
    }

    /// Checks that a connection can be had and that the server answers on it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`Error::Transient`] when the connection turns out to be lost.
    pub async fn health(&self) -> Result<()> {
        let conn = &mut self.get().await?;
        clock(conn).await?;
        Ok(())
    }

    /// How many connections there are, and how many callers wait for one.
    pub fn status(&self) -> deadpool::Status {
        self.0.status()
    }

    /// Closes the pool: no connection is handed out any more, and those in use are closed when they come
    /// back.
    pub fn close(&self) {
        self.0.close();
    }
}

impl PoolBuilder {
    /// The most connections at a time; 10 unless set.
    pub fn max_size(mut self, max_size: usize) -> Self {
        self.max_size = max_size;
        self
    }

    /// How long a caller waits for a connection to come free; 5 seconds unless set.
    pub fn wait_timeout(mut self, timeout: Duration) -> Self {
        self.wait_timeout = timeout;
        self
    }

    /// How long making a connection may take; 5 seconds unless set.
    pub fn create_timeout(mut self, timeout: Duration) -> Self {
        self.create_timeout = timeout;
        self
    }

    /// How long preparing a connection for its next use may take; 5 seconds unless set.
    pub fn recycle_timeout(mut self, timeout: Duration) -> Self {
        self.recycle_timeout = timeout;
        self
    }

    /// How long one statement may take before the server cancels it, without end when zero; what the URL
    /// says unless set, else 30 seconds.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = Some(timeout);
        self
    }

    /// What the server shows the connections as, at most 2,048 bytes; what the URL says unless set, else this
    /// crate's name.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = Some(name.into());
        self
    }

    /// Makes the pool. No connection is made yet.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] when the URL, a certificate, the name or the size can't be used.
    pub fn build(self) -> Result<Pool> {
        if self.max_size == 0 {
            return Err(Error::Configuration("a pool needs at least one connection".to_owned()));
        }
        let mut options = ConnectOptions::parse(&self.url)?;
        if let Some(name) = &self.application_name {
            options = options.application_name(name)?;
        }
        if let Some(timeout) = self.statement_timeout {
            options = options.statement_timeout(timeout);
        }
        let mut config = ManagerConfig::default();
        // Diesel's transaction manager and the closed socket say without a round trip whether a
        // connection can be used again.
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(move |_| {
            let options = options.clone();
            async move { Ok(options.connect().await?) }.boxed()
        });
        // The manager keeps the URL only to hand it to the setup, which has its own.
        let manager = AsyncDieselConnectionManager::new_with_config(String::new(), config);
        Deadpool::builder(manager)
            .max_size(self.max_size)
            .wait_timeout(Some(self.wait_timeout))
            .create_timeout(Some(self.create_timeout))
            .recycle_timeout(Some(self.recycle_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map(Pool)
            .map_err(|error| Error::Configuration(error.to_string()))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.status()).finish()
    }
}

/// Shows no URL: it may hold a password.
impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("max_size", &self.max_size)
            .field("application_name", &self.application_name)
            .finish_non_exhaustive()
    }
}
