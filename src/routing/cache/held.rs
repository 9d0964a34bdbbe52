//! The state of a routing cache: its snapshot, its freshness and its metrics.

use coarsetime::Instant;

use crate::routing::cache::freshness::Freshness;
use crate::routing::cache::metrics::Metrics;
use crate::routing::cache::snapshot::Snapshot;
use crate::values::Timestamp;

/// The state that picks read and the follower writes.
pub(super) struct Held {
    pub(super) snapshot: Snapshot,
    pub(super) freshness: Freshness,
    pub(super) metrics: Metrics,
}

impl Held {
    /// The state of a cache that has loaded nothing yet.
    pub(super) fn new() -> Self {
        let freshness = Freshness::new(Instant::now());
        let held = Self { snapshot: Snapshot::new(), freshness, metrics: Metrics::new() };
        held.metrics.experiments.set(0.0);
        held
    }

    /// The cache is as new as a query sent at `asked`.
    pub(super) fn confirm(&self, asked: Instant) {
        self.freshness.confirm(asked);
        self.metrics.polls.increment(1);
        self.tell_confirmed();
    }

    /// Counts the public model ids that were loaded anew.
    pub(super) fn reloaded(&self, public_model_ids: usize) {
        self.metrics.reloads.increment(public_model_ids as u64);
        self.metrics.experiments.set(self.snapshot.len() as f64);
    }

    pub(super) fn observe(&self) {
        self.metrics.age.set(self.freshness.age());
    }

    fn tell_confirmed(&self) {
        let age = self.freshness.age().as_secs_f64();
        let now = Timestamp::now().as_datetime().timestamp_micros() as f64 / 1e6;
        self.metrics.confirmed.set(now - age);
        self.metrics.age.set(age);
    }
}
