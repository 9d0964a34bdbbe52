//! The task that keeps a routing cache up to date.

use futures_util::FutureExt;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, sleep_until};

use crate::database::backoff::{MAX_DELAY, backoff};
use crate::database::connect::ConnectOptions;
use crate::database::language::is_english;
use crate::error::{Error, Result, Transient};
use crate::routing::cache::clock::DatabaseClock;
use crate::routing::cache::held::Held;
use crate::routing::cache::link::{Event, Link};
use crate::routing::cache::options::RoutingOptions;
use crate::routing::cache::pending::{Changed, MAX_IDS};
use crate::routing::experiment::RoutedExperiment;
use crate::routing::fingerprint::Fingerprint;
use crate::routing::query;
use crate::values::Timestamp;

/// The shortest interval of polls, however closely scheduled versions follow each other.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The shortest and the longest pause after a load of what was notified.
const MIN_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// How many times as long as a load of what was notified the pause after it is. However many
/// notifications arrive, loading takes a fifth of the time.
const PAUSE_RATIO: u32 = 4;

/// The pause between two retries of experiments that couldn't be loaded.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Keeps the cache up to date, over connections of its own.
pub(super) struct Follower {
    connect: ConnectOptions,
    options: RoutingOptions,
    held: Arc<Held>,
    link: Link,
    clock: DatabaseClock,
    /// The next poll: after the interval, or when a scheduled version becomes effective.
    poll_at: Instant,
    /// The public model ids whose experiment couldn't be loaded.
    not_loaded: VecDeque<String>,
    retry_at: Instant,
}

impl Follower {
    /// Connects, and loads every routed experiment.
    pub(super) async fn start(connect: ConnectOptions, options: RoutingOptions) -> Result<Self> {
        let link = Link::start(&connect, &options).await?;
        let now = Instant::now();
        let mut follower = Self {
            connect,
            options,
            held: Arc::new(Held::new()),
            link,
            clock: DatabaseClock::new(),
            poll_at: now,
            not_loaded: VecDeque::new(),
            retry_at: now,
        };
        follower.held.metrics.listening.set(f64::from(follower.link.is_listening()));
        follower.poll().await?;
        Ok(follower)
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
        let mut earliest = Instant::now();
        loop {
            // A poll comes first, so that no flood of notifications delays it.
            let event = tokio::select! {
                biased;
                () = sleep_until(self.poll_at.into()) => None,
                event = self.link.event(earliest) => Some(event?),
            };
            let changed = match event {
                Some(Event::Changed(changed)) => changed,
                Some(Event::Found(link)) => {
                    tracing::info!("routing follows the primary");
                    self.follow_by(*link).await?;
                    continue;
                }
                None => {
                    self.poll().await?;
                    continue;
                }
            };
            let start = Instant::now();
            self.load_changed(changed).await?;
            let end = Instant::now();
            let pause = (PAUSE_RATIO * (end - start)).clamp(MIN_PAUSE, MAX_PAUSE);
            earliest = end + pause;
        }
    }

    /// Loads what was notified.
    async fn load_changed(&mut self, changed: Changed) -> Result<()> {
        if let Changed::Ids(ids) = changed {
            match self.reload(&ids).await {
                // A poll finds out which of them it is.
                Err(error) if is_of_statement(&error) => self.link.reconnect().await?,
                reloaded => return reloaded,
            }
        }
        self.poll().await
    }

    /// Compares fingerprints, and loads what differs.
    async fn poll(&mut self) -> Result<()> {
        self.held.observe();
        let (asked, asked_coarsely) = (Instant::now(), coarsetime::Instant::now());
        let seen = self.clock.last();
        let load = async |conn: &mut _| query::load_fingerprints(conn, seen).await;
        let loaded = self.link.ask(load).await?;
        self.clock.observe(loaded.now);
        let fingerprints = loaded.experiments;
        if fingerprints.is_empty() {
            // Hidden rows read as none, and their requests would fall through.
            self.link.require_visible().await?;
        }
        let changes = fingerprints.iter().filter_map(|(_, fingerprint)| fingerprint.next_change());
        self.poll_at = poll_at(asked, &self.options, &self.clock, changes.min());
        self.retry(&fingerprints).await?;
        for changed in self.held.snapshot.changed(&fingerprints).chunks(MAX_IDS) {
            match self.reload(changed).await {
                Err(error) if is_of_statement(&error) => {
                    self.link.reconnect().await?;
                    self.reload_each(changed, &fingerprints).await?;
                }
                reloaded => reloaded?,
            }
        }
        self.held.confirm(asked_coarsely);
        Ok(())
    }

    /// Loads one of the experiments that couldn't be loaded, if it is time to.
    async fn retry(&mut self, fingerprints: &[(String, Fingerprint)]) -> Result<()> {
        let now = Instant::now();
        if now >= self.retry_at
            && let Some(id) = self.not_loaded.pop_front()
        {
            self.retry_at = now + RETRY_INTERVAL;
            self.reload_each(&[id], fingerprints).await?;
        }
        Ok(())
    }

    /// Loads experiments one by one, where they couldn't be loaded together. One that can't be
    /// loaded by itself is unavailable.
    async fn reload_each(
        &mut self,
        public_model_ids: &[String],
        fingerprints: &[(String, Fingerprint)],
    ) -> Result<()> {
        for id in public_model_ids {
            let Some(failed) = self.reload_alone(id).await? else { continue };
            let Some((_, fingerprint)) = fingerprints.iter().find(|(of, _)| of == id) else {
                return Err(failed);
            };
            let experiment = RoutedExperiment::not_loaded(fingerprint.clone(), failed);
            self.replace([(id.as_str(), Some(experiment))]);
            if !self.not_loaded.contains(id) {
                self.not_loaded.push_back(id.clone());
            }
        }
        Ok(())
    }

    /// Loads one experiment; returns why it can't be loaded. An error that may be trouble of the
    /// server's, told in another language, is one only after
    /// [`load_timeout`](RoutingOptions::load_timeout).
    async fn reload_alone(&mut self, public_model_id: &String) -> Result<Option<Error>> {
        let deadline = Instant::now() + self.options.load_timeout;
        let mut delays = backoff();
        loop {
            let error = match self.reload(slice::from_ref(public_model_id)).await {
                Err(error) if is_of_statement(&error) => error,
                reloaded => return reloaded.map(|()| None),
            };
            self.link.reconnect().await?;
            let is_late = Instant::now() >= deadline;
            if is_late || !error.is_unclear() || self.link.ask(is_english).await? {
                return Ok(Some(error));
            }
            sleep(delays.next().unwrap_or(MAX_DELAY)).await;
        }
    }

    /// Loads the experiments that are routed on `public_model_ids`.
    async fn reload(&mut self, public_model_ids: &[String]) -> Result<()> {
        let seen = self.clock.last();
        let load = async |conn: &mut _| query::load_some(conn, public_model_ids, seen).await;
        let loaded = self.link.ask(load).await?;
        self.clock.observe(loaded.now);
        let mut experiments: HashMap<_, _> = loaded.experiments.into_iter().collect();
        let changes = experiments.values().filter_map(|of| of.fingerprint().next_change());
        if let Some(change) = self.clock.when(changes.min()) {
            self.poll_at = self.poll_at.min(change);
        }
        let gone = public_model_ids.iter().filter(|id| !experiments.contains_key(*id));
        let gone = gone.filter_map(|id| Some((id.clone(), self.held.snapshot.find(id)?))).collect();
        experiments.extend(self.vanished(gone).await?);
        self.replace(public_model_ids.iter().map(|id| (id.as_str(), experiments.remove(id))));
        self.held.reloaded(public_model_ids.len());
        Ok(())
    }

    /// Those of `gone`, which are routed no longer, that aren't completed: the database has lost
    /// them.
    async fn vanished(
        &mut self,
        mut gone: Vec<(String, RoutedExperiment)>,
    ) -> Result<impl Iterator<Item = (String, RoutedExperiment)>> {
        if !gone.is_empty() {
            let ids: Vec<_> = gone.iter().map(|(_, experiment)| experiment.id()).collect();
            let list = async |conn: &mut _| query::list_completed(conn, &ids).await;
            let completed = self.link.ask(list).await?;
            gone.retain(|(_, experiment)| !completed.contains(&experiment.id()));
        }
        Ok(gone.into_iter().map(|(id, experiment)| (id, experiment.vanished())))
    }

    /// Replaces the experiment of each public model id, and logs those that can't be served.
    fn replace<'i>(&self, changes: impl IntoIterator<Item = (&'i str, Option<RoutedExperiment>)>) {
        let snapshot = &self.held.snapshot;
        snapshot.replace(changes.into_iter().inspect(|(id, experiment)| {
            if let Some(experiment) = experiment {
                report(id, experiment, snapshot.find(id).as_ref());
            }
        }));
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
        let link = Link::start(&self.connect, &self.options).await?;
        self.follow_by(link).await
    }

    async fn follow_by(&mut self, link: Link) -> Result<()> {
        self.link = link;
        self.held.metrics.listening.set(f64::from(self.link.is_listening()));
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

/// Whether an error may come of what a statement reads, and other statements may succeed.
fn is_of_statement(error: &Error) -> bool {
    match error {
        Error::Transient { kind, .. } => {
            matches!(
                kind,
                Transient::LockTimeout | Transient::StatementTimeout | Transient::OutOfResources
            )
        }
        _ => true,
    }
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
