//! How old a routing cache is.

use coarsetime::Instant;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The instant at which the cache was last known to be up to date, by the monotonic clock.
///
/// Every pick asks for the age. A coarse clock, exact to some milliseconds, answers in a fifth of
/// the time.
pub(super) struct Freshness {
    start: Instant,
    /// Nanoseconds from the start.
    confirmed: AtomicU64,
}

impl Freshness {
    /// A cache that is made at `start`.
    pub(super) fn new(start: Instant) -> Self {
        Self { start, confirmed: AtomicU64::new(0) }
    }

    /// The cache is as new as a query sent at `asked`.
    pub(super) fn confirm(&self, asked: Instant) {
        self.confirmed.store(self.nanoseconds(asked), Ordering::Release);
    }

    pub(super) fn age(&self) -> Duration {
        let confirmed = self.confirmed.load(Ordering::Acquire);
        Duration::from_nanos(self.nanoseconds(Instant::now()).saturating_sub(confirmed))
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        at.duration_since(self.start).as_nanos()
    }
}
