//! Recording what was served, after the client was answered.

use exponential_backoff::Backoff;
use model_experiments::operations::record::{self, Outcome};
use model_experiments::tables::requests::NewRequest;
use model_experiments::tables::usages::Usage;
use model_experiments::{Pool, Result};
use std::time::Duration;
use tokio::time::sleep;

/// How often it is tried while the database can't be reached, and how long to wait in between.
const ATTEMPTS: u32 = 5;
const DELAYS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// Records a usage with its request. Both have their ids already, so that they are recorded once however often it
/// is tried. A failure is for operators: the client was served.
pub async fn record(pool: Pool, usage: Usage, request: NewRequest) {
    let [shortest, longest] = DELAYS;
    for delay in Backoff::new(ATTEMPTS, shortest, longest) {
        match (try_record(&pool, &usage, &request).await, delay) {
            (Ok(Outcome::Recorded | Outcome::AlreadyRecorded), _) => return,
            (Err(error), Some(delay)) if error.is_retryable() => {
                tracing::warn!(usage = %usage.id, %error, "recording is tried again");
                sleep(delay).await;
            }
            (Err(error), _) => {
                tracing::error!(usage = %usage.id, %error, "a request wasn't recorded");
                return;
            }
        }
    }
}

async fn try_record(pool: &Pool, usage: &Usage, request: &NewRequest) -> Result<Outcome> {
    record::usage_with_request(&mut *pool.get().await?, usage, request).await
}
