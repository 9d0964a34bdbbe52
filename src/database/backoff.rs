//! The delays between retries.

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;

/// The delays before the first retry and before a late one, without jitter.
pub(crate) const RETRY_AFTER: [Duration; 2] =
    [Duration::from_millis(50), Duration::from_millis(2_500)];

/// The delays before each retry, without end.
pub(crate) fn backoff() -> ExponentialBackoff {
    let [first, later] = RETRY_AFTER;
    ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(later)
        .with_jitter()
        .without_max_times()
        .build()
}
