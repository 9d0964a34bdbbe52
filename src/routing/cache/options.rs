//! How a routing cache is to be kept.

use std::time::Duration;

use crate::error::{Error, Result};

/// The longest poll interval.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// How a [`RoutingCache`](super::RoutingCache) is to be kept up to date.
#[derive(Debug, Clone)]
#[must_use]
pub struct RoutingOptions {
    pub(super) poll_interval: Duration,
    pub(super) max_staleness: Duration,
    pub(super) load_timeout: Duration,
}

impl Default for RoutingOptions {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(5),
            max_staleness: Duration::from_secs(600),
            load_timeout: Duration::from_secs(10),
        }
    }
}

impl RoutingOptions {
    /// How often to ask what changed, for changes that weren't announced or whose announcement was lost; 5 seconds
    /// unless set, a day at most. The question costs the database in proportion to the variants that are routed.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// How long to route by what is held when the database can't be asked; 10 minutes unless set. It is longer than
    /// the poll interval. Past it every model is unavailable, experimented with or not: what isn't known could be.
    pub fn max_staleness(mut self, staleness: Duration) -> Self {
        self.max_staleness = staleness;
        self
    }

    /// How long the database may take to answer before the connection counts as lost; 10 seconds unless set.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.load_timeout = timeout;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let refused = |reason: &str| Err(Error::configuration(reason));
        if self.poll_interval.is_zero() || self.load_timeout.is_zero() {
            return refused("the poll interval and the load timeout must be longer than nothing");
        }
        if self.poll_interval > MAX_POLL_INTERVAL {
            return refused("the poll interval must be at most a day");
        }
        if self.max_staleness <= self.poll_interval {
            return refused("max_staleness must be longer than the poll interval");
        }
        Ok(())
    }
}
