//! Recording what was served, after the client was answered.

use backon::{ExponentialBuilder, Retryable};
use model_experiments::operations::record::{self, Outcome};
use model_experiments::tables::requests::NewRequest;
use model_experiments::tables::usages::Usage;
use model_experiments::{Error, Pool, Result};
use std::time::Duration;

/// How long it is tried while the database can't be reached: as long as routing goes on without it.
const PATIENCE: Duration = Duration::from_secs(600);

/// Records a usage with its request. Both have their ids already, so that they are recorded once however often it
/// is tried. A failure is for operators: the client was served. What waits for the database is in memory alone, and
/// there is no limit to it: a service that must lose nothing needs one, and a place to put what exceeds it.
pub async fn record(pool: Pool, usage: Usage, request: NewRequest) {
    let backoff = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
        .with_total_delay(Some(PATIENCE));
    let recorded = (async || try_record(&pool, &usage, &request).await)
        .retry(backoff)
        .when(Error::is_retryable)
        .notify(|error, _| tracing::warn!(usage = %usage.id, %error, "recording is tried again"))
        .await;
    match recorded {
        Ok(Outcome::Recorded | Outcome::AlreadyRecorded) => {}
        Err(error) => tracing::error!(usage = %usage.id, %error, "a request wasn't recorded"),
    }
}

async fn try_record(pool: &Pool, usage: &Usage, request: &NewRequest) -> Result<Outcome> {
    record::usage_with_request(&mut *pool.get().await?, usage, request).await
}
