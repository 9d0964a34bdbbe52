//! Routing decisions from memory, kept up to date with the database.

mod clock;
mod follower;
mod freshness;
mod held;
mod metrics;
mod options;
mod snapshot;

pub use crate::routing::cache::options::RoutingOptions;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

use crate::database::connect::ConnectOptions;
use crate::error::Result;
use crate::routing::bucketing::Subject;
use crate::routing::cache::follower::Follower;
use crate::routing::cache::held::Held;
use crate::routing::decision::Route;
use crate::routing::unavailable::Unavailable;

/// Who serves a request, answered from memory: [`pick`](Self::pick) neither waits nor allocates.
///
/// A task of its own keeps what is held up to date, over one connection of its own. Every operation of this crate that
/// changes routing announces it when it is committed, and the task loads what changed: within milliseconds, every cache
/// of every service has it. It also asks for changes every few seconds, in case they were made by other means or
/// an announcement was lost, and wakes when a scheduled version takes over, by the database's clock. What one pick
/// has seen, no later one unsees: also not when the database's clock is set back, unless the database itself has lost it,
/// as in a failover to a replica that lagged behind.
///
/// While the database can't be reached, routing goes on by what is held, until that is older than
/// [`max_staleness`](RoutingOptions::max_staleness); then every model is unavailable. An experiment that can't be served,
/// as when its upstream can't be read, is unavailable by itself, and is reported once as an error through `tracing`.
///
/// Clones share one cache. When the last is dropped, its task ends.
///
/// ```no_run
/// use model_experiments::routing::{Route, Subject};
/// use model_experiments::values::ApiKeyCipher;
/// use model_experiments::{ConnectOptions, RoutingCache, RoutingOptions};
///
/// # async fn serve(cipher: ApiKeyCipher) -> model_experiments::Result<()> {
/// let connect = ConnectOptions::parse("postgres://gateway@db.example/app?sslmode=verify-full")?;
/// let routing = RoutingCache::start(&connect, RoutingOptions::default()).await?;
///
/// match routing.pick("partner/preview-foo", Subject::user("user-7")) {
///     Route::Serve(served) => {
///         let api_key = served.api_key(&cipher)?;
///         // … call served.upstream() with it
///     }
///     Route::NotExperimented => { /* as without experiments */ }
///     Route::Paused => { /* 404: never fall through */ }
///     Route::Unavailable(reason) => eprintln!("503: {reason}"),
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Other writers
///
/// Whoever changes routing by other means can announce it too, in the same transaction:
/// `SELECT pg_notify('model_experiment_routing', 'partner/preview-foo')`. Notifications need a session on the primary:
/// behind a proxy that pools transactions, give the cache the server's own URL, or it relies on asking. Of several hosts
/// in the URL it takes the one that takes writes.
///
/// # Metrics
///
/// Through the `metrics` facade, to the recorder that is installed when the cache starts: the counters
/// `model_experiments_routing_picks_total` with the label `outcome` (`served`, `not_experimented`, `paused`,
/// `unavailable`, `stale`), `…_reloads_total`, `…_polls_total` and `…_reconnects_total`, and the gauges
/// `…_age_seconds`, `…_confirmed_timestamp_seconds` and `…_experiments`, where `…` stands for `model_experiments_routing`.
/// The age is set whenever the database is asked, or can't be; for an alert take the timestamp, which also tells of a cache
/// whose runtime has ended.
#[derive(Clone)]
pub struct RoutingCache(Arc<Inner>);

struct Inner {
    held: Arc<Held>,
    max_staleness: Duration,
    follower: Mutex<Option<JoinHandle<()>>>,
}

impl RoutingCache {
    /// Connects, loads every routed experiment, and follows changes in a task of the current runtime.
    ///
    /// # Errors
    ///
    /// - [`Error::Configuration`](crate::Error::Configuration) when the URL or an option can't be used;
    /// - [`Error::Transient`](crate::Error::Transient) when the database can't be reached or doesn't answer in time;
    /// - what else the database says, as when it has no such tables.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn start(connect: &ConnectOptions, options: RoutingOptions) -> Result<Self> {
        options.check()?;
        let max_staleness = options.max_staleness;
        let follower = Follower::start(connect.clone(), options).await?;
        let held = follower.held();
        let follower = Mutex::new(Some(tokio::spawn(follower.run())));
        Ok(Self(Arc::new(Inner { held, max_staleness, follower })))
    }

    /// What to do with a request of `subject` for `public_model_id`, which is whatever the client asked for. It
    /// allocates nothing, but for a place among the readers at a thread's first pick.
    ///
    /// [`Route::NotExperimented`] is only said by a cache that has loaded everything and isn't stale: past
    /// `max_staleness`, every pick is [`Unavailable::Stale`].
    pub fn pick(&self, public_model_id: &str, subject: Subject<'_>) -> Route {
        let held = &self.0.held;
        let route = if held.freshness.age() > self.0.max_staleness {
            Route::Unavailable(Unavailable::Stale)
        } else {
            held.snapshot.route(public_model_id, subject)
        };
        held.metrics.picked(&route);
        route
    }

    /// How long ago all that is held was known to be what the database has. It grows to the poll interval, and
    /// beyond it while the database can't be asked. It is exact to some milliseconds. Where the system's monotonic clock stands still while a machine
    /// sleeps, so does the age.
    pub fn age(&self) -> Duration {
        self.0.held.freshness.age()
    }

    /// How many experiments are active or paused.
    pub fn len(&self) -> usize {
        self.0.held.snapshot.len()
    }

    /// Whether no experiment is active or paused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the task, for all clones, and waits until it has ended; a second call returns at once. Picks go on until
    /// what is held is stale.
    pub async fn shutdown(&self) {
        let follower = self.0.follower().take();
        if let Some(follower) = follower {
            follower.abort();
            // It was cancelled, or had panicked before.
            let _ = follower.await;
        }
    }
}

impl Inner {
    fn follower(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(follower) = self.follower().take() {
            follower.abort();
        }
    }
}

impl fmt::Debug for RoutingCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingCache")
            .field("len", &self.len())
            .field("age", &self.age())
            .finish_non_exhaustive()
    }
}
