//! How long to wait before something is tried again that failed at the moment.

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;

/// Before the first repetition, and before a later one; jitter comes on top.
pub(crate) const RETRY_AFTER: [Duration; 2] =
    [Duration::from_millis(50), Duration::from_millis(2_500)];

/// The pauses before one repetition after the other, without end.
pub(crate) fn backoff() -> ExponentialBackoff {
    let [first, later] = RETRY_AFTER;
    ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(later)
        .with_jitter()
        .without_max_times()
        .build()
}
