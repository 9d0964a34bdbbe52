//! The database's clock, by which versions become effective.

use std::time::Instant;

use crate::values::Timestamp;

/// The last reading of the database's clock, and the latest instant of our monotonic clock at which
/// it was taken. Our calendar doesn't matter.
pub(super) struct DatabaseClock {
    last: Option<Timestamp>,
    observed_at: Instant,
}

impl DatabaseClock {
    /// A clock without a reading.
    pub(super) fn new() -> Self {
        Self { last: None, observed_at: Instant::now() }
    }

    /// The last reading. Queries never use an earlier one, even where the clock was set back.
    pub(super) fn last(&self) -> Option<Timestamp> {
        self.last
    }

    /// Notes the reading in an answer that has just come, if it has one.
    pub(super) fn observe(&mut self, said: Option<Timestamp>) {
        if said.is_some() {
            *self = Self { last: said, observed_at: Instant::now() };
        }
    }

    /// The latest instant of our clock at which it reads `at`; `None` when that is beyond our
    /// clock.
    pub(super) fn when(&self, at: Option<Timestamp>) -> Option<Instant> {
        let left = (at? - self.last?).to_std().unwrap_or_default();
        self.observed_at.checked_add(left)
    }
}
