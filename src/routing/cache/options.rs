//! The options of a routing cache.

use derive_setters::Setters;
use std::time::Duration;

use crate::error::{Error, Result};

/// The longest poll interval.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The intervals and limits of a [`RoutingCache`](crate::RoutingCache).
#[derive(Debug, Clone, Setters)]
#[must_use]
pub struct RoutingOptions {
    /// The interval of polls, which find changes whose notification was not sent or was lost. The
    /// default is 5 seconds, the maximum a day. A poll costs the database in proportion to the
    /// routed variants.
    pub(super) poll_interval: Duration,
    /// The age up to which the cache is served while the database can't be reached. The default is
    /// 10 minutes. It must exceed the poll interval. Past it, every model is unavailable, also one
    /// without an experiment: one may have begun.
    pub(super) max_staleness: Duration,
    /// The longest time to connect to a host, and to load what one query loads: up to 500
    /// experiments, or one that couldn't be loaded with others. The default is 10 seconds. Past it,
    /// a poll counts the connection as lost, and an experiment loaded by itself is unavailable.
    pub(super) load_timeout: Duration,
    /// Whether the cache may follow a standby while no primary can be had. The default is `false`.
    ///
    /// A standby sends no notifications, so that polls alone find what it has replayed. Meanwhile
    /// the cache looks for a primary every 2 seconds, and goes over to it. A standby may lag: the
    /// cache may answer by an older state than before, and its age doesn't include the lag.
    pub(super) allow_standby: bool,
}

impl Default for RoutingOptions {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(5),
            max_staleness: Duration::from_secs(600),
            load_timeout: Duration::from_secs(10),
            allow_standby: false,
        }
    }
}

impl RoutingOptions {
    pub(super) fn check(&self) -> Result<()> {
        let refused = |reason: &str| Err(Error::configuration(reason));
        if self.poll_interval.is_zero() || self.load_timeout.is_zero() {
            return refused("poll_interval and load_timeout must be longer than zero");
        }
        if self.poll_interval > MAX_POLL_INTERVAL {
            return refused("poll_interval must be at most a day");
        }
        if self.max_staleness <= self.poll_interval {
            return refused("max_staleness must be longer than poll_interval");
        }
        Ok(())
    }
}
