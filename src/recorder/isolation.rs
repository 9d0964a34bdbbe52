//! Writing rows in as few statements as what is wrong with some of them allows.

use diesel_async::AsyncPgConnection;
use std::collections::HashSet;
use std::time::Duration;

use super::row::{Part, Row};
use crate::connection::answered;
use crate::error::{Error, Result, Transient};
use crate::operations::record::{Outcome, Record, attribute_many, record_many, record_usages};
use crate::values::UsageId;

/// Writes a part of rows, over one connection.
pub(super) struct Statements<'c> {
    conn: &'c mut AsyncPgConnection,
    part: Part,
    timeout: Duration,
    /// A row that got through.
    written: Option<UsageId>,
    /// Rows that were refused for what may not be their fault.
    unknown: HashSet<UsageId>,
    /// Why rows may be left.
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

impl Trouble {
    fn error(&self) -> &Error {
        match self {
            Self::Refused(error) | Self::Unknown(error) | Self::Blocked(error) => error,
        }
    }
}

impl<'c> Statements<'c> {
    /// Writes `part` of rows. The server gives up a statement after `timeout`.
    pub(super) fn new(conn: &'c mut AsyncPgConnection, part: Part, timeout: Duration) -> Self {
        // Only a server that doesn't is lost.
        let timeout = timeout.saturating_mul(2);
        Self { conn, part, timeout, written: None, unknown: HashSet::new(), why: None }
    }

    /// Writes rows, in one statement when there is nothing wrong with any of them. Otherwise those that can't be written
    /// are found by halving, and the others are written: one bad row of n costs 2 log₂ n + 1 statements at most.
    ///
    /// An error is the server's. The inner error is of the rows that are left, while others may get through.
    pub(super) async fn write(mut self, rows: &mut [Row]) -> Result<Result<()>> {
        if let Some(trouble) = self.together(rows).await? {
            if rows.len() > 1 {
                tracing::warn!(rows = rows.len(), error = %trouble.error(), "a batch is written in parts");
            }
            self.halve(rows, trouble).await?;
            self.judge(rows).await?;
        }
        Ok(self.why.map_or(Ok(()), Err))
    }

    /// Tells what is wrong with a row from what is wrong with the database: the row was refused, another one then
    /// isn't, and the row is again.
    async fn judge(&mut self, rows: &mut [Row]) -> Result<()> {
        let Some(known) = self.written else { return Ok(()) };
        let is_in_doubt = |row: &Row| self.unknown.contains(&row.record.usage.id);
        let (mut doubtful, others): (Vec<_>, Vec<_>) =
            rows.chunks_mut(1).partition(|row| row.iter().all(is_in_doubt));
        let Some(known) = others.into_iter().find(|row| row[0].record.usage.id == known) else {
            return Ok(());
        };
        if doubtful.is_empty() || self.together(known).await?.is_some() {
            return Ok(());
        }
        for row in &mut doubtful {
            if let Some(Trouble::Refused(error) | Trouble::Unknown(error)) =
                self.together(row).await?
            {
                row[0].failed(error);
            }
        }
        Ok(())
    }

    async fn write_all(&mut self, rows: &mut [Row]) -> Result<()> {
        match self.together(rows).await? {
            None => Ok(()),
            Some(trouble) => self.halve(rows, trouble).await,
        }
    }

    /// Writes rows that weren't written together.
    async fn halve(&mut self, mut rows: &mut [Row], trouble: Trouble) -> Result<()> {
        if let [row] = rows {
            self.settle(row, trouble);
            return Ok(());
        }
        while rows.len() > 1 {
            let (first, second) = rows.split_at_mut(rows.len() / 2);
            let Some(of_first) = self.together(first).await? else {
                // It is because of the others: they would fail together again.
                rows = second;
                continue;
            };
            if !matches!(of_first, Trouble::Blocked(_)) || self.written.is_some() {
                Box::pin(self.halve(first, of_first)).await?;
                return Box::pin(self.write_all(second)).await;
            }
            return match self.together(second).await? {
                // Nobody gets past, and to find that out row by row would take long.
                Some(Trouble::Blocked(error)) => {
                    self.why = Some(error);
                    Ok(())
                }
                of_second => {
                    Box::pin(self.halve(first, of_first)).await?;
                    match of_second {
                        None => Ok(()),
                        Some(of_second) => Box::pin(self.halve(second, of_second)).await,
                    }
                }
            };
        }
        Box::pin(self.write_all(rows)).await
    }

    fn settle(&mut self, row: &mut Row, trouble: Trouble) {
        match trouble {
            Trouble::Refused(error) => drop(row.failed(error)),
            Trouble::Unknown(error) => {
                self.unknown.insert(row.record.usage.id);
                self.why = Some(error);
            }
            Trouble::Blocked(error) => self.why = Some(error),
        }
    }

    /// Writes all rows in one statement, or none.
    async fn together(&mut self, rows: &mut [Row]) -> Result<Option<Trouble>> {
        let error = match answered(self.timeout, self.run(rows)).await {
            Ok(outcomes) => {
                for (row, outcome) in rows.iter_mut().zip(outcomes) {
                    match outcome {
                        Ok(outcome) => {
                            self.written = Some(row.record.usage.id);
                            row.written(self.part, outcome);
                        }
                        Err(error) => drop(row.failed(error)),
                    }
                }
                return Ok(None);
            }
            Err(error) => error,
        };
        use Transient::{Cancelled, Deadlock, SerializationFailure, StatementTimeout};
        match &error {
            Error::Transient {
                cause: Cancelled | Deadlock | SerializationFailure | StatementTimeout,
                ..
            } => Ok(Some(Trouble::Blocked(error))),
            Error::Transient { .. } => Err(error),
            Error::Database(_) => Ok(Some(Trouble::Unknown(error))),
            _ => Ok(Some(Trouble::Refused(error))),
        }
    }

    async fn run(&mut self, rows: &[Row]) -> Result<Vec<Result<Outcome>>> {
        let records: Vec<&Record> = rows.iter().map(|row| &*row.record).collect();
        match self.part {
            Part::Both => record_many(self.conn, &records).await,
            Part::Usage => {
                let usages: Vec<_> = records.iter().map(|record| &record.usage).collect();
                record_usages(self.conn, &usages).await
            }
            Part::Request => {
                let requests: Vec<_> =
                    records.iter().map(|record| (record.usage.id, &record.request)).collect();
                attribute_many(self.conn, &requests).await
            }
        }
    }
}
