//! Timeouts of a writer's statements.

use std::time::Duration;

use crate::database::connect::ConnectOptions;
use crate::database::settings::milliseconds;
use crate::recording::recorder::options::RecorderOptions;

/// Lock timeout of batches; longer than `deadlock_timeout`, so that PostgreSQL reports deadlocks
/// itself.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Lock timeout of the retry writer, which attempts one version after the other.
const RETRY_LOCK_TIMEOUT: Duration = Duration::from_millis(250);

/// Timeouts of a writer's statements, by which the server cancels them.
#[derive(Clone, Copy)]
pub(super) struct Timeouts {
    /// How long a statement may run.
    pub(super) statement: Duration,
    /// How long a statement may wait for a lock.
    pub(super) lock: Duration,
}

impl Timeouts {
    /// Timeouts of batches that weren't attempted before.
    pub(super) fn of_batches(options: &RecorderOptions) -> Self {
        Self::new(options, LOCK_TIMEOUT)
    }

    /// Timeouts of batches of the retry queue.
    pub(super) fn of_retries(options: &RecorderOptions) -> Self {
        Self::new(options, RETRY_LOCK_TIMEOUT)
    }

    fn new(options: &RecorderOptions, lock: Duration) -> Self {
        Self { statement: options.write_timeout, lock: options.write_timeout.min(lock) }
    }

    /// Connections with these timeouts.
    pub(super) fn apply(self, connect: &ConnectOptions) -> ConnectOptions {
        connect
            .clone()
            .connect_within(self.statement)
            .statement_timeout(self.statement)
            .session_setting("lock_timeout", milliseconds(self.lock).to_string())
            // Most of its statements are outside of transactions.
            .session_setting("default_transaction_isolation", "read committed")
            .session_setting("default_transaction_read_only", "off")
    }
}
