//! Routing decisions from memory, kept up to date with the database.

mod clock;
mod follower;
mod freshness;
mod held;
mod link;
mod listener;
mod metrics;
mod options;
mod pending;
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

/// Routing decisions from memory. [`pick`](Self::pick) neither waits nor allocates.
///
/// # Freshness
///
/// A task keeps the cache up to date, over two connections of its own: one listens, the other
/// loads.
///
/// - **Notifications.** Every operation of this crate that changes routing notifies when it
///   commits, and the task loads what changed.
/// - **Polls.** The task also compares fingerprints every
///   [`poll_interval`](RoutingOptions::poll_interval), in case a change was made by other means or
///   a notification was lost.
/// - **Schedules.** The task wakes when a scheduled version becomes effective, by the database's
///   clock.
///
/// - **Heartbeats.** The listening connection is asked every 2 seconds for a sign of life. One
///   without an answer for 2 seconds counts as lost, and both are made anew.
///
/// Any role that can connect to the database can notify. A payload that is no public model id is
/// dropped. At most 500 ids are kept; of more, a poll finds what changed. Loading what was notified
/// takes a fifth of the time at most, and never delays a poll.
///
/// A pick never answers by an older state than an earlier pick did, even where the database's clock
/// was set back. The exception is a failover to a replica that had not received a change.
///
/// # Outages
///
/// While the database can't be reached, the cache serves what it holds until that is older than
/// [`max_staleness`](RoutingOptions::max_staleness). Past that, every model is unavailable.
///
/// Row-level security that hides every experiment counts as an outage. What a policy hides is
/// routed as if it weren't there.
///
/// An experiment that can't be served is unavailable by itself, and is logged once as an error:
///
/// - A version is unreadable, or another writer made it so much longer than can be published that
///   it isn't loaded.
/// - It isn't loaded within [`load_timeout`](RoutingOptions::load_timeout), or the database can't
///   read it. Experiments that can't be loaded together are loaded one by one, at the start too.
/// - It was routed, and is neither routed nor completed now: it has [vanished]. Tables that were
///   emptied, or restored from an older backup, never let its requests fall through.
///
/// [vanished]: Unavailable::Vanished
///
/// # Example
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
/// Clones share one cache. When the last is dropped, its task ends.
///
/// # Other writers
///
/// A writer of raw SQL can notify too, in the same transaction:
/// `SELECT pg_notify('model_experiment_routing', 'partner/preview-foo')`.
///
/// The cache ignores the notification of an id that breaks the rule of
/// [`PublicModelId`](crate::values::PublicModelId). A poll finds the change.
///
/// # Standbys and poolers
///
/// Only a primary sends notifications, and only to a session. Of several hosts in the URL the cache
/// takes the primary. With [`allow_standby`](RoutingOptions::allow_standby) it follows a standby by
/// polls alone while no primary can be had.
///
/// # Metrics
///
/// Through the `metrics` facade, to the recorder that is installed when the cache starts. Every
/// name begins with `model_experiments_routing_`.
///
/// | Name | Kind | Meaning |
/// |---|---|---|
/// | `picks_total` | counter | Picks, by the label `outcome` |
/// | `reloads_total` | counter | Public model ids that were loaded anew |
/// | `polls_total` | counter | Polls, the start among them |
/// | `reconnects_total` | counter | Reconnects |
/// | `age_seconds` | gauge | Age, set on each poll or failed attempt |
/// | `confirmed_timestamp_seconds` | gauge | Unix time at which the cache was last up to date |
/// | `experiments` | gauge | Experiments that are active, paused or vanished |
/// | `listening` | gauge | 1 where notifications arrive, 0 where polls alone find changes |
///
/// An `outcome` is `served`, `not_experimented`, `paused`, `unavailable` or `stale`.
///
/// Alert on `confirmed_timestamp_seconds`: it also reveals a cache whose runtime has ended.
#[derive(Clone)]
pub struct RoutingCache(Arc<Inner>);

struct Inner {
    held: Arc<Held>,
    max_staleness: Duration,
    follower: Mutex<Option<JoinHandle<()>>>,
}

impl RoutingCache {
    /// Connects, loads every routed experiment, and follows changes in a task of the current
    /// runtime.
    ///
    /// An experiment that can't be loaded doesn't keep it from starting. Each may delay it by
    /// [`load_timeout`](RoutingOptions::load_timeout).
    ///
    /// # Errors
    ///
    /// - [`Error::Configuration`](crate::Error::Configuration) when the URL or an option can't be
    ///   used;
    /// - [`Error::Transient`](crate::Error::Transient) when the database can't be reached or
    ///   doesn't answer in time, or is a standby that isn't allowed;
    /// - [`Error::RowsHidden`](crate::Error::RowsHidden) when row-level security hides every row of
    ///   a table from the role;
    /// - [`Error::Database`](crate::Error::Database) when it lacks the tables.
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

    /// What to do with a request of `subject` for `public_model_id`, the model that the client
    /// asked for.
    ///
    /// It allocates nothing, except a reader's slot at a thread's first pick. Only a cache that
    /// isn't stale answers [`Route::NotExperimented`]. Past `max_staleness`, every pick is
    /// [`Unavailable::Stale`].
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

    /// The time since the cache was last known to be up to date, exact to some milliseconds.
    ///
    /// It grows to the poll interval, and beyond while the database can't be reached. Where the
    /// system's monotonic clock stands still while a machine sleeps, so does the age.
    pub fn age(&self) -> Duration {
        self.0.held.freshness.age()
    }

    /// How many experiments are active, paused or vanished.
    pub fn len(&self) -> usize {
        self.0.held.snapshot.len()
    }

    /// Whether no experiment is active, paused or vanished.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the task, for all clones, and waits until it has ended. A second call returns at once.
    /// Picks go on until the cache is stale.
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
