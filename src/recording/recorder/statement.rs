//! One statement over a batch's records, and how it ended.

use diesel_async::AsyncPgConnection;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

use crate::database::connect::{Connected, answered};
use crate::database::language::is_english;
use crate::database::pooling::Pooling;
use crate::database::transaction::transaction_within;
use crate::error::{Error, Result};
use crate::recording::record::{attribute_many, many, usages};
use crate::recording::recorder::part::Part;
use crate::recording::recorder::pending_record::PendingRecord;
use crate::recording::recorder::timeouts::Timeouts;
use crate::recording::types::{Outcome, Record};

/// Runs statements that write one part of records, each for all records or for none.
pub(super) struct Statement<'c> {
    connected: &'c mut Connected,
    part: Part,
    timeouts: Timeouts,
    /// Number of records that all writers of the part have recorded.
    recorded: &'c AtomicU64,
}

/// How a statement ended.
///
/// | Error                                                         | End            |
/// |---------------------------------------------------------------|----------------|
/// | none                                                          | `Written`      |
/// | `Transient`: deadlock, timeout, serialization or cancellation | `Blocked`      |
/// | `Transient`: any other                                        | `ServerFailed` |
/// | `Database`, later than half of the lock timeout               | `Blocked`      |
/// | `Database`, earlier                                           | `Ambiguous`    |
/// | `Database`, and the connection is lost                        | `ServerFailed` |
/// | any other, as a violated constraint                           | `Refused`      |
///
/// Where the server's language isn't English, the time tells a lock timeout from other failures. A
/// record whose statement ended ambiguously is retried there until its deadline.
pub(super) enum StatementEnd {
    /// Every record was written, or failed by itself; `recorded` of them weren't there before.
    Written { recorded: usize },
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
    /// Statements that write `part`, and count the records in `recorded`.
    pub(super) fn new(
        connected: &'c mut Connected,
        part: Part,
        timeouts: Timeouts,
        recorded: &'c AtomicU64,
    ) -> Self {
        Self { connected, part, timeouts, recorded }
    }

    /// Runs one statement for all records, and notes the outcome of each.
    pub(super) async fn run(&mut self, records: &mut [PendingRecord]) -> StatementEnd {
        let start = Instant::now();
        // A server that doesn't answer within twice the timeout is lost.
        let within = self.timeouts.statement.saturating_mul(2);
        let error = match answered(within, self.insert(records)).await {
            Ok(outcomes) => {
                let is_recorded = |outcome: &&Result<Outcome>| **outcome == Ok(Outcome::Recorded);
                let recorded = outcomes.iter().filter(is_recorded).count();
                self.recorded.fetch_add(recorded as u64, Ordering::SeqCst);
                for (record, outcome) in records.iter_mut().zip(outcomes) {
                    match outcome {
                        Ok(outcome) => record.mark_written(self.part, outcome),
                        Err(error) => record.fail(error),
                    }
                }
                return StatementEnd::Written { recorded };
            }
            Err(error) => error,
        };
        match &error {
            Error::Transient { kind, .. } if kind.is_of_statement() => StatementEnd::Blocked(error),
            Error::Transient { .. } => StatementEnd::ServerFailed(error),
            Error::Database(_) if start.elapsed() > self.timeouts.lock / 2 => {
                StatementEnd::Blocked(error)
            }
            Error::Database(_) => match self.is_understood(&error).await {
                Ok(is_understood) => {
                    // Without this note, no record fails before its deadline.
                    if is_understood {
                        let recorded = self.recorded.load(Ordering::SeqCst);
                        records.iter_mut().for_each(|record| record.note_failure(recorded));
                    }
                    StatementEnd::Ambiguous(error)
                }
                Err(_) => StatementEnd::ServerFailed(error),
            },
            _ => StatementEnd::Refused(error),
        }
    }

    /// Whether it is certain that `error` is no trouble of the server's, told in another language.
    ///
    /// Fails where the connection is lost.
    async fn is_understood(&mut self, error: &Error) -> Result<bool> {
        if !error.is_unclear() {
            return Ok(true);
        }
        answered(self.timeouts.statement, is_english(&mut self.connected.conn)).await
    }

    /// Inserts within the timeouts: those of the session, or of a transaction where a pooler shares
    /// the session.
    async fn insert(&mut self, pending: &[PendingRecord]) -> Result<Vec<Result<Outcome>>> {
        let records: Vec<&Record> = pending.iter().map(PendingRecord::record).collect();
        let Connected { conn, pooling, .. } = &mut *self.connected;
        let (part, Timeouts { statement, lock }) = (self.part, self.timeouts);
        match pooling {
            Pooling::None | Pooling::Session => insert(conn, part, &records).await,
            Pooling::Transaction => {
                let work = async |conn: &mut AsyncPgConnection| insert(conn, part, &records).await;
                transaction_within(conn, statement, lock, work).await
            }
        }
    }
}

async fn insert(
    conn: &mut AsyncPgConnection,
    part: Part,
    records: &[&Record],
) -> Result<Vec<Result<Outcome>>> {
    match part {
        Part::Both => many(conn, records).await,
        Part::Usage => {
            let of_records: Vec<_> = records.iter().map(|record| &record.usage).collect();
            usages(conn, &of_records).await
        }
        Part::Request => {
            let requests: Vec<_> =
                records.iter().map(|record| (record.usage.id, &record.request)).collect();
            attribute_many(conn, &requests).await
        }
    }
}
