//! Writing rows in as few statements as what is wrong with some of them allows.

use diesel_async::AsyncPgConnection;
use std::time::Duration;

use super::row::{Part, Row};
use crate::connection::answered;
use crate::error::{Error, Result};
use crate::operations::record::{Outcome, Record, attribute_many, record_many, record_usages};

/// Writes a part of rows, over one connection.
pub(super) struct Statements<'c> {
    pub(super) conn: &'c mut AsyncPgConnection,
    pub(super) part: Part,
    /// How long a statement may take.
    pub(super) timeout: Duration,
}

impl Statements<'_> {
    /// Writes rows, in one statement when there is nothing wrong with any of them. Otherwise those that can't be written
    /// are found by halving, and the others are written: one bad row of n costs 2 log₂ n + 1 statements at most.
    ///
    /// On an error, which is of the moment, those that are left may be tried again.
    pub(super) async fn write(&mut self, rows: &mut [Row]) -> Result<()> {
        match self.together(rows).await? {
            Ok(()) => Ok(()),
            Err(refusal) => self.isolate(rows, refusal).await,
        }
    }

    /// Writes rows that were refused together.
    async fn isolate(&mut self, mut rows: &mut [Row], refusal: Error) -> Result<()> {
        if let [row] = rows {
            row.failed(refusal);
            return Ok(());
        }
        while rows.len() > 1 {
            let (first, second) = rows.split_at_mut(rows.len() / 2);
            if let Err(refusal) = self.together(first).await? {
                Box::pin(self.isolate(first, refusal)).await?;
                return Box::pin(self.write(second)).await;
            }
            // What is wrong is with the others: they would be refused together again.
            rows = second;
        }
        Box::pin(self.write(rows)).await
    }

    /// Writes all rows in one statement, or none; the inner error is what is wrong with some of them.
    async fn together(&mut self, rows: &mut [Row]) -> Result<Result<()>> {
        let outcomes = match answered(self.timeout, self.run(rows)).await {
            Ok(outcomes) => outcomes,
            Err(error) if error.is_retryable() => return Err(error),
            Err(refusal) => return Ok(Err(refusal)),
        };
        for (row, outcome) in rows.iter_mut().zip(outcomes) {
            match outcome {
                Ok(outcome) => row.written(outcome),
                Err(error) => drop(row.failed(error)),
            }
        }
        Ok(Ok(()))
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
