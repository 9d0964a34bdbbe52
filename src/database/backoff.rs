//! The delays between retries.

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;

/// The delay before the first retry, without jitter.
pub(crate) const MIN_DELAY: Duration = Duration::from_millis(50);

/// The longest delay before a retry, without jitter.
pub(crate) const MAX_DELAY: Duration = Duration::from_millis(2_500);

/// The delays before each retry, without end.
pub(crate) fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(MIN_DELAY)
        .with_max_delay(MAX_DELAY)
        .with_jitter()
        .without_max_times()
        .build()
}
