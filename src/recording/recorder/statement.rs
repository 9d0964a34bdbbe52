//! One statement over a batch's records, and how it ended.

use diesel_async::AsyncPgConnection;
use std::time::Duration;
use tokio::time::Instant;

use crate::database::connect::answered;
use crate::error::{Error, Result};
use crate::recording::record::{attribute_many, many, usages};
use crate::recording::recorder::part::Part;
use crate::recording::recorder::pending_record::PendingRecord;
use crate::recording::types::{Outcome, Record};

/// A statement that fails after this time probably waited for a lock.
///
/// Tells a lock timeout from other failures where the server's language isn't English.
const PROBABLE_LOCK_WAIT: Duration = Duration::from_secs(1);

/// Runs statements that write one part of records, each for all records or for none.
pub(super) struct Statement<'c> {
    conn: &'c mut AsyncPgConnection,
    part: Part,
    timeout: Duration,
}

/// How a statement ended.
///
/// | Error                                                         | End            |
/// |---------------------------------------------------------------|----------------|
/// | none                                                          | `Written`      |
/// | `Transient`: deadlock, timeout, serialization or cancellation | `Blocked`      |
/// | `Transient`: any other                                        | `ServerFailed` |
/// | `Database`, later than [`PROBABLE_LOCK_WAIT`]                 | `Blocked`      |
/// | `Database`, earlier                                           | `Ambiguous`    |
/// | any other, as a violated constraint                           | `Refused`      |
pub(super) enum StatementEnd {
    /// Every record was written, or failed by itself.
    Written,
    /// The database refuses some records for good.
    Refused(Error),
    /// The database refuses some records, or can't write any at the moment.
    Ambiguous(Error),
    /// Another session holds up some records, or all.
    Blocked(Error),
    /// The connection or the server failed.
    ServerFailed(Error),
}

impl<'c> Statement<'c> {
    /// Statements that write `part`. The server cancels each after `timeout`.
    pub(super) fn new(conn: &'c mut AsyncPgConnection, part: Part, timeout: Duration) -> Self {
        // A server that doesn't answer within twice the timeout is lost.
        Self { conn, part, timeout: timeout.saturating_mul(2) }
    }

    /// Runs one statement for all records, and notes the outcome of each if it succeeds.
    pub(super) async fn run(&mut self, records: &mut [PendingRecord]) -> StatementEnd {
        let start = Instant::now();
        let error = match answered(self.timeout, self.insert(records)).await {
            Ok(outcomes) => {
                for (record, outcome) in records.iter_mut().zip(outcomes) {
                    match outcome {
                        Ok(outcome) => record.mark_written(self.part, outcome),
                        Err(error) => drop(record.fail(error)),
                    }
                }
                return StatementEnd::Written;
            }
            Err(error) => error,
        };
        match &error {
            Error::Transient { kind, .. } if kind.is_of_statement() => StatementEnd::Blocked(error),
            Error::Transient { .. } => StatementEnd::ServerFailed(error),
            Error::Database(_) if start.elapsed() > PROBABLE_LOCK_WAIT => {
                StatementEnd::Blocked(error)
            }
            Error::Database(_) => StatementEnd::Ambiguous(error),
            _ => StatementEnd::Refused(error),
        }
    }

    async fn insert(&mut self, pending: &[PendingRecord]) -> Result<Vec<Result<Outcome>>> {
        let records: Vec<&Record> = pending.iter().map(|pending| &*pending.record).collect();
        match self.part {
            Part::Both => many(self.conn, &records).await,
            Part::Usage => {
                let of_records: Vec<_> = records.iter().map(|record| &record.usage).collect();
                usages(self.conn, &of_records).await
            }
            Part::Request => {
                let requests: Vec<_> =
                    records.iter().map(|record| (record.usage.id, &record.request)).collect();
                attribute_many(self.conn, &requests).await
            }
        }
    }
}
