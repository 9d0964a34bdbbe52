//! Halving: writes a batch in one statement, and finds refused records by splitting it.
//!
//! One refused record of n costs at most 2 log2(n) + 1 statements.
//!
//! # What follows a statement
//!
//! [`Halving::settle`]:
//!
//! | End            | One record | Several records |
//! |----------------|------------|-----------------|
//! | `Written`      | nothing    | nothing         |
//! | `Refused`      | fail it    | split them      |
//! | `Ambiguous`    | leave it   | split them      |
//! | `Blocked`      | leave it   | leave them      |
//! | `ServerFailed` | stop       | stop            |
//!
//! Blocked records aren't split, since each statement would wait for the lock again. An ambiguous
//! error of one record may concern all: the retry writer finds out.
//!
//! # What follows a split
//!
//! [`Halving::split`] splits records that failed together. It runs the first half, and the second
//! before the first is settled only if all of the batch may be failing.
//!
//! | First half                       | Second half              | Then                           |
//! |----------------------------------|--------------------------|--------------------------------|
//! | `Written`                        | not run                  | split second: it has the cause |
//! | `Ambiguous`, none written before | `Written`                | settle first                   |
//! | `Ambiguous`, none written before | `Refused`                | settle first, then second      |
//! | `Ambiguous`, none written before | `Ambiguous` or `Blocked` | leave both                     |
//! | `Ambiguous`, none written before | `ServerFailed`           | stop                           |
//! | `Ambiguous`, some written before | not run yet              | settle first, write second     |
//! | `Refused` or `Blocked`           | not run yet              | settle first, write second     |
//! | `ServerFailed`                   | not run                  | stop                           |
//!
//! "Before" is in any earlier statement of the batch. A half of one record that has the cause isn't
//! split: it is written alone, for an error of its own.
//!
//! If no half can be written and nothing was written before, the cause is hardly a single record:
//! the batch is left to the retry queue.

use crate::error::{Error, Result};
use crate::recording::recorder::pending_record::PendingRecord;
use crate::recording::recorder::statement::{Statement, StatementEnd};

/// How writing a batch ended.
pub(super) struct BatchEnd {
    pub(super) state: BatchState,
    /// Whether some of its records were recorded.
    pub(super) has_recorded: bool,
}

/// What is left of a batch, and why.
pub(super) enum BatchState {
    /// Every record was written or has failed.
    Settled,
    /// Some records remain, blocked for this reason; other records may get through.
    Blocked(Error),
    /// Some records remain, which the database refuses, unless it can't write any.
    Ambiguous(Error),
    /// Some records remain, since the server or the connection failed.
    ServerFailed(Error),
}

/// Writes a batch's records; those with a part remaining are to be retried.
pub(super) async fn write_batch(
    statement: Statement<'_>,
    records: &mut [PendingRecord],
) -> BatchEnd {
    let mut halving =
        Halving { statement, has_written: false, has_recorded: false, rest: BatchState::Settled };
    let state = match halving.write(records).await {
        Ok(()) => halving.rest,
        Err(error) => BatchState::ServerFailed(error),
    };
    BatchEnd { state, has_recorded: halving.has_recorded }
}

struct Halving<'c> {
    statement: Statement<'c>,
    /// Whether a statement of this batch was written.
    has_written: bool,
    has_recorded: bool,
    /// Why records remain, if some do.
    rest: BatchState,
}

/// An `Err` of any of these is the server's or the connection's, and stops the halving.
impl Halving<'_> {
    /// Writes records, in one statement if possible.
    async fn write(&mut self, records: &mut [PendingRecord]) -> Result<()> {
        let end = self.run(records).await;
        self.settle(records, end).await
    }

    async fn run(&mut self, records: &mut [PendingRecord]) -> StatementEnd {
        let end = self.statement.run(records).await;
        if let StatementEnd::Written { recorded } = end {
            self.has_written = true;
            self.has_recorded |= recorded > 0;
        }
        end
    }

    /// Follows up a statement with all of `records`, by the first table.
    async fn settle(&mut self, records: &mut [PendingRecord], end: StatementEnd) -> Result<()> {
        match (end, records) {
            (StatementEnd::Written { .. }, _) => {}
            (StatementEnd::Refused(error), [record]) => record.fail(error),
            (StatementEnd::Ambiguous(error), [_]) => self.rest = BatchState::Ambiguous(error),
            (StatementEnd::Blocked(error), _) => self.rest = BatchState::Blocked(error),
            (StatementEnd::Refused(_) | StatementEnd::Ambiguous(_), records) => {
                Box::pin(self.split(records)).await?;
            }
            (StatementEnd::ServerFailed(error), _) => return Err(error),
        }
        Ok(())
    }

    /// Writes records that failed together, by the second table.
    async fn split(&mut self, records: &mut [PendingRecord]) -> Result<()> {
        if records.len() < 2 {
            // Alone, it gets an error of its own.
            return self.write(records).await;
        }
        let (first, second) = records.split_at_mut(records.len() / 2);
        match self.run(first).await {
            StatementEnd::Written { .. } => Box::pin(self.split(second)).await,
            ambiguous @ StatementEnd::Ambiguous(_) if !self.has_written => {
                match self.run(second).await {
                    StatementEnd::Written { .. } => self.settle(first, ambiguous).await,
                    refused @ StatementEnd::Refused(_) => {
                        self.settle(first, ambiguous).await?;
                        self.settle(second, refused).await
                    }
                    StatementEnd::Ambiguous(error) => {
                        self.rest = BatchState::Ambiguous(error);
                        Ok(())
                    }
                    StatementEnd::Blocked(error) => {
                        self.rest = BatchState::Blocked(error);
                        Ok(())
                    }
                    StatementEnd::ServerFailed(error) => Err(error),
                }
            }
            StatementEnd::ServerFailed(error) => Err(error),
            end => {
                self.settle(first, end).await?;
                self.write(second).await
            }
        }
    }
}
