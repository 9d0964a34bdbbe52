//! Writing rows in as few statements as what is wrong with some of them allows.

use diesel_async::AsyncPgConnection;
use std::time::Duration;
use tokio::time::Instant;

use crate::database::connect::answered;
use crate::error::{Error, Result};
use crate::recording::record::{attribute_many, many, usages};
use crate::recording::recorder::part::Part;
use crate::recording::recorder::pending_record::PendingRecord;
use crate::recording::types::{Outcome, Record};

/// What takes longer was held up by somebody, in whatever language the server says so.
const LONG: Duration = Duration::from_secs(1);

/// Writes a part of rows, over one connection.
pub(super) struct Statements<'c> {
    conn: &'c mut AsyncPgConnection,
    part: Part,
    timeout: Duration,
    has_written: bool,
    /// Why rows are left, if there are any.
    why: Option<Error>,
}

/// Why rows weren't written together.
enum Trouble {
    /// Some of them can't be.
    Refused(Error),
    /// Some of them can't be, or none can at the moment.
    Unknown(Error),
    /// Somebody is in the way of some of them, or of all.
    Blocked(Error),
}

impl<'c> Statements<'c> {
    /// Statements that write `part` of rows. The server gives up each after `timeout`.
    pub(super) fn new(conn: &'c mut AsyncPgConnection, part: Part, timeout: Duration) -> Self {
        // Only a server that doesn't is lost.
        let timeout = timeout.saturating_mul(2);
        Self { conn, part, timeout, has_written: false, why: None }
    }

    /// Writes rows, in one statement when there is nothing wrong with any of them. Those that the database refuses are
    /// found by halving, and the others are written: one row of n that violates a constraint costs 2 log₂ n + 1 statements
    /// at most.
    ///
    /// An error is the server's. The inner error is why rows are left, while others may get through.
    pub(super) async fn write(mut self, rows: &mut [PendingRecord]) -> Result<Result<()>> {
        self.write_part(rows).await?;
        Ok(self.why.map_or(Ok(()), Err))
    }

    async fn write_part(&mut self, rows: &mut [PendingRecord]) -> Result<()> {
        match self.together(rows).await? {
            None => Ok(()),
            Some(trouble) => self.halve(rows, trouble).await,
        }
    }

    /// Writes rows that weren't written together.
    async fn halve(&mut self, mut rows: &mut [PendingRecord], trouble: Trouble) -> Result<()> {
        match (trouble, &mut *rows) {
            (Trouble::Refused(error), [row]) => {
                row.fail(error);
                return Ok(());
            }
            // To find out by waiting again and again who is blocked would take long.
            (Trouble::Blocked(error), _) | (Trouble::Unknown(error), [_]) => {
                self.why = Some(error);
                return Ok(());
            }
            (Trouble::Refused(_) | Trouble::Unknown(_), _) => {}
        }
        while rows.len() > 1 {
            let (first, second) = rows.split_at_mut(rows.len() / 2);
            let Some(of_first) = self.together(first).await? else {
                // It is because of the others: they would fail together again.
                rows = second;
                continue;
            };
            if self.has_written || !matches!(of_first, Trouble::Unknown(_)) {
                Box::pin(self.halve(first, of_first)).await?;
                return Box::pin(self.write_part(second)).await;
            }
            return match self.together(second).await? {
                None => Box::pin(self.halve(first, of_first)).await,
                Some(Trouble::Refused(error)) => {
                    Box::pin(self.halve(first, of_first)).await?;
                    Box::pin(self.halve(second, Trouble::Refused(error))).await
                }
                // Nothing gets through, so it is hardly because of a row.
                Some(Trouble::Unknown(error) | Trouble::Blocked(error)) => {
                    self.why = Some(error);
                    Ok(())
                }
            };
        }
        Box::pin(self.write_part(rows)).await
    }

    /// Writes all rows in one statement, or none.
    async fn together(&mut self, rows: &mut [PendingRecord]) -> Result<Option<Trouble>> {
        let start = Instant::now();
        let error = match answered(self.timeout, self.run(rows)).await {
            Ok(outcomes) => {
                self.has_written = true;
                for (row, outcome) in rows.iter_mut().zip(outcomes) {
                    match outcome {
                        Ok(outcome) => row.mark_written(self.part, outcome),
                        Err(error) => drop(row.fail(error)),
                    }
                }
                return Ok(None);
            }
            Err(error) => error,
        };
        match &error {
            Error::Transient { kind, .. } if kind.is_of_statement() => {
                Ok(Some(Trouble::Blocked(error)))
            }
            Error::Transient { .. } => Err(error),
            Error::Database(_) if start.elapsed() > LONG => Ok(Some(Trouble::Blocked(error))),
            Error::Database(_) => Ok(Some(Trouble::Unknown(error))),
            _ => Ok(Some(Trouble::Refused(error))),
        }
    }

    async fn run(&mut self, rows: &[PendingRecord]) -> Result<Vec<Result<Outcome>>> {
        let records: Vec<&Record> = rows.iter().map(|row| &*row.record).collect();
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
