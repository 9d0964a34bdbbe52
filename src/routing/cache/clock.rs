//! The database's clock, by which versions become effective.

use std::time::Instant;

use crate::values::Timestamp;

/// What the database's clock last said, and the latest instant of our monotonic clock at which it said so. Our
/// calendar doesn't matter.
pub(super) struct DatabaseClock {
    last: Option<Timestamp>,
    observed_at: Instant,
}

impl DatabaseClock {
    /// A clock that has said nothing yet.
    pub(super) fn new() -> Self {
        Self { last: None, observed_at: Instant::now() }
    }

    /// What it last said. For queries it is never earlier again, even where it was set back.
    pub(super) fn last(&self) -> Option<Timestamp> {
        self.last
    }

    /// Notes what it said in an answer that has just come, if it said anything.
    pub(super) fn observe(&mut self, said: Option<Timestamp>) {
        if said.is_some() {
            *self = Self { last: said, observed_at: Instant::now() };
        }
    }

    /// The latest instant of our clock at which it says `at`; `None` when that is further away than ours reaches.
    pub(super) fn when(&self, at: Option<Timestamp>) -> Option<Instant> {
        let left = (at? - self.last?).to_std().unwrap_or_default();
        self.observed_at.checked_add(left)
    }
}
