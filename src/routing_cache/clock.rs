//! The database's clock, by which versions take over.

use chrono::{DateTime, Utc};
use std::time::Instant;

/// What the database's clock was last seen to say, and when that was at the latest by our monotonic clock. What our
/// calendar says doesn't matter.
pub(super) struct DatabaseClock {
    said: DateTime<Utc>,
    seen: Instant,
}

impl Default for DatabaseClock {
    fn default() -> Self {
        Self { said: DateTime::UNIX_EPOCH, seen: Instant::now() }
    }
}

impl DatabaseClock {
    /// What it last said: it counts as going on from there, even if it was set back.
    pub(super) fn said(&self) -> DateTime<Utc> {
        self.said
    }

    /// Notes what it said in an answer that has just come, if it said anything.
    pub(super) fn see(&mut self, said: Option<DateTime<Utc>>) {
        if let Some(said) = said {
            *self = Self { said, seen: Instant::now() };
        }
    }

    /// When by our clock it will surely say that it is `at`; never, if that is further away than ours reaches.
    pub(super) fn when(&self, at: Option<DateTime<Utc>>) -> Option<Instant> {
        let left = (at? - self.said).to_std().unwrap_or_default();
        self.seen.checked_add(left)
    }
}
