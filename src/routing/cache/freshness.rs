//! How old a routing cache is.

use coarsetime::Instant;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// When all that is held was last known to be what the database has. It is measured by the monotonic clock: nobody's
/// calendar matters. Every pick asks for the age, and a clock that is exact to some milliseconds answers in a fifth of
/// the time.
pub(super) struct Freshness {
    start: Instant,
    /// Nanoseconds from the start.
    confirmed: AtomicU64,
}

impl Freshness {
    /// All that is held was asked for at `asked`.
    pub(super) fn new(asked: Instant) -> Self {
        Self { start: asked, confirmed: AtomicU64::new(0) }
    }

    /// All that is held is what the database had at `asked` or later.
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
