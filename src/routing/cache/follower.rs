//! The task that keeps a routing cache up to date.

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::{FutureExt, StreamExt};
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, sleep_until};

use crate::database::backoff::backoff;
use crate::database::connect::{ConnectOptions, answered};
use crate::error::{Error, Result, Transient};
use crate::experiments::notify::CHANNEL;
use crate::routing::cache::clock::DatabaseClock;
use crate::routing::cache::held::Held;
use crate::routing::cache::options::RoutingOptions;
use crate::routing::experiment::RoutedExperiment;
use crate::routing::query;
use crate::values::Timestamp;

/// The shortest interval of polls, however closely scheduled versions follow each other.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The most public model ids of one query.
const BATCH: usize = 500;

/// Keeps the cache up to date, over a connection of its own.
pub(super) struct Follower {
    connect: ConnectOptions,
    options: RoutingOptions,
    held: Arc<Held>,
    conn: AsyncPgConnection,
    clock: DatabaseClock,
    /// The next poll: after the interval, or when a scheduled version becomes effective.
    poll_at: Instant,
}

enum Event {
    /// The routing of these public model ids changed.
    Notified(Vec<String>),
    /// It is time to poll.
    Due,
}

impl Follower {
    /// Connects, and loads every routed experiment.
    pub(super) async fn start(connect: ConnectOptions, options: RoutingOptions) -> Result<Self> {
        let connect = connect
            // Only the primary sends notifications.
            .primary()
            .statement_timeout(options.load_timeout)
            // The server would compile a large query anew each time, which takes longer than
            // running it.
            .setting("jit", "off");
        let mut conn = listen(&connect, &options).await?;
        let (asked, asked_coarsely) = (Instant::now(), coarsetime::Instant::now());
        let mut clock = DatabaseClock::new();
        let loaded = in_time(&options, query::load_all_since(&mut conn, clock.last())).await?;
        clock.observe(loaded.now);
        let changes =
            loaded.experiments.iter().filter_map(|(_, of)| of.fingerprint().next_change());
        let poll_at = poll_at(asked, &options, &clock, changes.min());
        for (id, experiment) in &loaded.experiments {
            report(id, experiment, None);
        }
        let held = Arc::new(Held::new(loaded.experiments, asked_coarsely));
        Ok(Self { connect, options, held, conn, clock, poll_at })
    }

    /// The state that it keeps up to date.
    pub(super) fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held)
    }

    /// Follows changes until it is aborted.
    pub(super) async fn run(mut self) {
        loop {
            // A metrics recorder or a tracing subscriber is the host's code, and may panic.
            match AssertUnwindSafe(self.follow()).catch_unwind().await {
                Ok(Err(error)) => {
                    tracing::warn!(%error, "lost the connection that keeps routing up to date");
                }
                Err(_) => tracing::error!("what keeps routing up to date panicked; it goes on"),
            }
            self.reconnect().await;
        }
    }

    async fn follow(&mut self) -> Result<Infallible> {
        loop {
            match self.next_event().await? {
                Event::Notified(ids) => self.reload(&ids).await?,
                Event::Due => self.poll().await?,
            }
        }
    }

    async fn next_event(&mut self) -> Result<Event> {
        let mut notifications = pin!(self.conn.notifications_stream());
        let first = tokio::select! {
            notified = notifications.next() => notified,
            () = sleep_until(self.poll_at.into()) => return Ok(Event::Due),
        };
        let mut ids = BTreeSet::new();
        let mut next = Some(first);
        // Notifications that wait already are answered together.
        while let Some(notified) = next {
            ids.insert(notified.ok_or_else(ended)??.payload);
            next = if ids.len() < BATCH { notifications.next().now_or_never() } else { None };
        }
        Ok(Event::Notified(ids.into_iter().collect()))
    }

    /// Compares fingerprints, and loads what differs.
    async fn poll(&mut self) -> Result<()> {
        self.held.observe();
        let (asked, asked_coarsely) = (Instant::now(), coarsetime::Instant::now());
        let last = self.clock.last();
        let loaded = in_time(&self.options, query::load_fingerprints(&mut self.conn, last)).await?;
        self.clock.observe(loaded.now);
        let changes =
            loaded.experiments.iter().filter_map(|(_, fingerprint)| fingerprint.next_change());
        self.poll_at = poll_at(asked, &self.options, &self.clock, changes.min());
        for changed in self.held.snapshot.changed(&loaded.experiments).chunks(BATCH) {
            self.reload(changed).await?;
        }
        self.held.confirm(asked_coarsely);
        Ok(())
    }

    /// Loads the experiments that are routed on `public_model_ids`.
    async fn reload(&mut self, public_model_ids: &[String]) -> Result<()> {
        let last = self.clock.last();
        let load = query::load_some(&mut self.conn, public_model_ids, last);
        let loaded = in_time(&self.options, load).await?;
        self.clock.observe(loaded.now);
        let mut experiments: HashMap<_, _> = loaded.experiments.into_iter().collect();
        let changes = experiments.values().filter_map(|of| of.fingerprint().next_change());
        if let Some(change) = self.clock.when(changes.min()) {
            self.poll_at = self.poll_at.min(change);
        }
        let changes = public_model_ids.iter().map(|id| {
            let experiment = experiments.remove(id);
            if let Some(experiment) = &experiment {
                report(id, experiment, self.held.snapshot.find(id).as_ref());
            }
            (id.as_str(), experiment)
        });
        self.held.snapshot.replace(changes);
        self.held.reloaded(public_model_ids.len());
        Ok(())
    }

    async fn reconnect(&mut self) {
        let mut is_said_to_be_stale = false;
        for delay in backoff() {
            sleep(delay).await;
            self.held.observe();
            if self.held.freshness.age() > self.options.max_staleness && !is_said_to_be_stale {
                tracing::error!(
                    "routing is stale: every model is unavailable until the database answers"
                );
                is_said_to_be_stale = true;
            }
            match self.resume().await {
                Ok(()) => {
                    self.held.metrics.reconnects.increment(1);
                    tracing::info!("routing is kept up to date again");
                    return;
                }
                Err(error) => tracing::warn!(%error, "routing can't be kept up to date yet"),
            }
        }
    }

    /// Connects, listens, and loads what changed since.
    async fn resume(&mut self) -> Result<()> {
        self.conn = listen(&self.connect, &self.options).await?;
        self.poll().await
    }
}

/// The next poll: after the interval, or when a scheduled version becomes effective.
fn poll_at(
    asked: Instant,
    options: &RoutingOptions,
    clock: &DatabaseClock,
    change: Option<Timestamp>,
) -> Instant {
    let regular = asked + options.poll_interval;
    let earliest = asked + MIN_POLL_INTERVAL;
    clock.when(change).map_or(regular, |change| change.clamp(earliest, regular.max(earliest)))
}

/// A connection that listens for notifications. A later load misses no change: what it doesn't see
/// is notified.
async fn listen(connect: &ConnectOptions, options: &RoutingOptions) -> Result<AsyncPgConnection> {
    let mut conn = connect.connect_within(options.load_timeout).await?;
    in_time(options, async { Ok(conn.batch_execute(&format!("LISTEN {CHANNEL}")).await?) }).await?;
    Ok(conn)
}

async fn in_time<T>(options: &RoutingOptions, asked: impl Future<Output = Result<T>>) -> Result<T> {
    answered(options.load_timeout, asked).await
}

fn ended() -> Error {
    Error::transient(Transient::ConnectionLost, "the server closed the connection")
}

/// Logs why an experiment can't be served, unless the cached one had the same reason.
fn report(public_model_id: &str, loaded: &RoutedExperiment, held: Option<&RoutedExperiment>) {
    if let Some(reason) = loaded.broken()
        && held.and_then(RoutedExperiment::broken) != Some(reason)
    {
        tracing::error!(
            public_model_id,
            experiment = %loaded.id(),
            %reason,
            "an experiment can't be served"
        );
    }
}
