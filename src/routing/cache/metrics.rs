//! The metrics of a routing cache.

use metrics::{Counter, Gauge, counter, gauge};

use crate::routing::decision::Route;
use crate::routing::unavailable::Unavailable;

const PICKS: &str = "model_experiments_routing_picks_total";
const AGE: &str = "model_experiments_routing_age_seconds";
const CONFIRMED: &str = "model_experiments_routing_confirmed_timestamp_seconds";
const EXPERIMENTS: &str = "model_experiments_routing_experiments";
const RELOADS: &str = "model_experiments_routing_reloads_total";
const POLLS: &str = "model_experiments_routing_polls_total";
const LISTENING: &str = "model_experiments_routing_listening";
const RECONNECTS: &str = "model_experiments_routing_reconnects_total";

/// Handles that are looked up once, so that counting a pick is one addition.
pub(super) struct Metrics {
    served: Counter,
    not_experimented: Counter,
    paused: Counter,
    unavailable: Counter,
    stale: Counter,
    pub(super) age: Gauge,
    pub(super) confirmed: Gauge,
    pub(super) experiments: Gauge,
    pub(super) listening: Gauge,
    pub(super) reloads: Counter,
    pub(super) polls: Counter,
    pub(super) reconnects: Counter,
}

impl Metrics {
    pub(super) fn new() -> Self {
        metrics::describe_counter!(PICKS, "Routing decisions by their outcome");
        metrics::describe_gauge!(
            AGE,
            metrics::Unit::Seconds,
            "Time since the cache was last known to be up to date"
        );
        metrics::describe_gauge!(
            CONFIRMED,
            metrics::Unit::Seconds,
            "Unix time at which the cache was last known to be up to date"
        );
        metrics::describe_gauge!(EXPERIMENTS, "Experiments that are active, paused or vanished");
        metrics::describe_gauge!(
            LISTENING,
            "1 where notifications arrive, 0 where polls alone find changes"
        );
        metrics::describe_counter!(RELOADS, "Public model ids that were loaded anew");
        metrics::describe_counter!(POLLS, "Polls of all fingerprints");
        metrics::describe_counter!(RECONNECTS, "Reconnects to the database");
        Self {
            served: counter!(PICKS, "outcome" => "served"),
            not_experimented: counter!(PICKS, "outcome" => "not_experimented"),
            paused: counter!(PICKS, "outcome" => "paused"),
            unavailable: counter!(PICKS, "outcome" => "unavailable"),
            stale: counter!(PICKS, "outcome" => "stale"),
            age: gauge!(AGE),
            confirmed: gauge!(CONFIRMED),
            experiments: gauge!(EXPERIMENTS),
            listening: gauge!(LISTENING),
            reloads: counter!(RELOADS),
            polls: counter!(POLLS),
            reconnects: counter!(RECONNECTS),
        }
    }

    pub(super) fn picked(&self, route: &Route) {
        let counter = match route {
            Route::Serve(_) => &self.served,
            Route::NotExperimented => &self.not_experimented,
            Route::Paused => &self.paused,
            Route::Unavailable(Unavailable::Stale) => &self.stale,
            Route::Unavailable(_) => &self.unavailable,
        };
        counter.increment(1);
    }
}
