//! The task that keeps what is held up to date.

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use exponential_backoff::Backoff;
use futures_util::{FutureExt, StreamExt};
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, sleep_until, timeout};

use super::clock::DatabaseClock;
use super::{Held, RoutingOptions};
use crate::connection::ConnectOptions;
use crate::error::{Error, Result, Transient};
use crate::operations::notify::CHANNEL;
use crate::operations::routing::{self, RoutedExperiment};

/// How long to wait before the first attempt to connect anew, and at most before a later one.
const RECONNECT_AFTER: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// Keeps what is held up to date, over a connection of its own.
pub(super) struct Follower {
    connect: ConnectOptions,
    options: RoutingOptions,
    held: Arc<Held>,
    conn: AsyncPgConnection,
    clock: DatabaseClock,
    /// When to ask for all that changed: because it is time again, or because a scheduled version takes over.
    poll_at: Instant,
}

enum Event {
    /// Somebody said that something else is routed on these public model ids.
    Announced(BTreeSet<String>),
    /// It is time to ask.
    Due,
}

impl Follower {
    /// Loads all that is routed.
    pub(super) async fn start(connect: ConnectOptions, options: RoutingOptions) -> Result<Self> {
        let mut conn = listen(&connect, &options).await?;
        let (asked, mut clock) = (Instant::now(), DatabaseClock::default());
        let loaded = in_time(&options, routing::load_all_since(&mut conn, clock.said())).await?;
        clock.see(loaded.now);
        let changes = loaded.experiments.iter().filter_map(|(_, of)| of.outline().next_change());
        let poll_at = earlier(asked + options.poll_interval, clock.when(changes.min()));
        for (id, experiment) in &loaded.experiments {
            report(id, experiment, None);
        }
        let held = Arc::new(Held::new(loaded.experiments, asked));
        Ok(Self { connect, options, held, conn, clock, poll_at })
    }

    /// What it keeps up to date.
    pub(super) fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held)
    }

    /// Keeps it up to date for as long as the future is polled.
    pub(super) async fn run(mut self) {
        loop {
            let Err(error) = self.follow().await;
            tracing::warn!(%error, "lost the connection that keeps routing up to date");
            self.reconnect().await;
        }
    }

    async fn follow(&mut self) -> Result<Infallible> {
        loop {
            match self.next_event().await? {
                Event::Announced(ids) => self.reload(&ids.into_iter().collect::<Vec<_>>()).await?,
                Event::Due => self.poll().await?,
            }
        }
    }

    async fn next_event(&mut self) -> Result<Event> {
        let mut announcements = pin!(self.conn.notifications_stream());
        let first = tokio::select! {
            announced = announcements.next() => announced,
            () = sleep_until(self.poll_at.into()) => return Ok(Event::Due),
        };
        let mut ids = BTreeSet::new();
        let mut next = Some(first);
        // All that wait are answered by one query.
        while let Some(announced) = next {
            ids.insert(announced.ok_or_else(ended)??.payload);
            next = announcements.next().now_or_never();
        }
        Ok(Event::Announced(ids))
    }

    /// Asks what changed, and loads it.
    async fn poll(&mut self) -> Result<()> {
        let asked = Instant::now();
        let seen = self.clock.said();
        let loaded = in_time(&self.options, routing::load_outlines(&mut self.conn, seen)).await?;
        self.clock.see(loaded.now);
        let changes = loaded.experiments.iter().filter_map(|(_, outline)| outline.next_change());
        self.poll_at = earlier(asked + self.options.poll_interval, self.clock.when(changes.min()));
        let changed = self.held.snapshot.changed(&loaded.experiments);
        if !changed.is_empty() {
            self.reload(&changed).await?;
        }
        self.held.confirm(asked);
        Ok(())
    }

    /// Loads what is routed on `public_model_ids`.
    async fn reload(&mut self, public_model_ids: &[String]) -> Result<()> {
        let seen = self.clock.said();
        let load = routing::load_some(&mut self.conn, public_model_ids, seen);
        let loaded = in_time(&self.options, load).await?;
        self.clock.see(loaded.now);
        let mut experiments: HashMap<_, _> = loaded.experiments.into_iter().collect();
        for id in public_model_ids {
            let experiment = experiments.remove(id);
            if let Some(experiment) = &experiment {
                report(id, experiment, self.held.snapshot.find(id).as_deref());
                let change = self.clock.when(experiment.outline().next_change());
                self.poll_at = earlier(self.poll_at, change);
            }
            self.held.snapshot.replace(id, experiment);
        }
        self.held.metrics.reloads.increment(public_model_ids.len() as u64);
        self.held.observe();
        Ok(())
    }

    async fn reconnect(&mut self) {
        let [first, most] = RECONNECT_AFTER;
        for delay in Backoff::new(u32::MAX, first, most).into_iter().flatten() {
            sleep(delay).await;
            self.held.observe();
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

    /// Listens again, and loads what changed since.
    async fn resume(&mut self) -> Result<()> {
        self.conn = listen(&self.connect, &self.options).await?;
        self.poll().await
    }
}

/// A connection that hears of changes. What it loads afterwards lacks none that it won't hear of.
async fn listen(connect: &ConnectOptions, options: &RoutingOptions) -> Result<AsyncPgConnection> {
    in_time(options, async {
        let mut conn = connect.connect().await?;
        conn.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        Ok(conn)
    })
    .await
}

async fn in_time<T>(options: &RoutingOptions, asked: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(options.load_timeout, asked).await.unwrap_or_else(|_| {
        Err(Error::Transient {
            cause: Transient::ConnectionLost,
            message: format!("no answer within {:?}", options.load_timeout),
        })
    })
}

fn ended() -> Error {
    Error::Transient {
        cause: Transient::ConnectionLost,
        message: "the server closed the connection".to_owned(),
    }
}

fn earlier(at: Instant, other: Option<Instant>) -> Instant {
    other.map_or(at, |other| at.min(other))
}

/// Says of an experiment that can't be served why, unless that has been said of what was held before.
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
