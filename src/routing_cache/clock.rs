//! The database's clock, by which versions take over.

use chrono::{DateTime, Utc};
use std::time::Instant;

/// What the database's clock was last observed to say, and when that was at the latest by our monotonic clock. What our
/// calendar says doesn't matter.
pub(super) struct DatabaseClock {
    last: DateTime<Utc>,
    observed_at: Instant,
}

impl Default for DatabaseClock {
    fn default() -> Self {
        Self { last: DateTime::UNIX_EPOCH, observed_at: Instant::now() }
    }
}

impl DatabaseClock {
    /// What it last said. For queries it is never earlier again, even where it was set back.
    pub(super) fn last(&self) -> DateTime<Utc> {
        self.last
    }

    /// Notes what it said in an answer that has just come, if it said anything.
    pub(super) fn observe(&mut self, said: Option<DateTime<Utc>>) {
        if let Some(last) = said {
            *self = Self { last, observed_at: Instant::now() };
        }
    }

    /// When by our clock it will surely say that it is `at`; never, if that is further away than ours reaches.
    pub(super) fn when(&self, at: Option<DateTime<Utc>>) -> Option<Instant> {
        let left = (at? - self.last).to_std().unwrap_or_default();
        self.observed_at.checked_add(left)
    }
}
