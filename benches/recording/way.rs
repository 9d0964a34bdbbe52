//! The ways to record that are compared.

use model_experiments::recording::{Outcome, record};
use model_experiments::{Pool, Recorder};
use std::time::Duration;

use crate::raw;
use crate::row::Row;

/// A way to record rows.
#[derive(Clone)]
pub enum Way {
    /// BEGIN, two insertions and COMMIT for each row, by tokio-postgres.
    RawTransaction(raw::Pool),
    /// The crate's statement for each row, by tokio-postgres.
    RawStatement(raw::Pool),
    /// The crate's statement for all rows, by tokio-postgres.
    RawBatch(raw::Pool),
    /// BEGIN, two COPYs and COMMIT for all rows, by tokio-postgres.
    RawCopy(raw::Pool),
    /// [`record::usage_with_request`] for each row.
    Statement(Pool),
    /// [`record::many`] for all rows.
    Batch(Pool),
    /// The recorder, and waiting for the receipt of each row.
    Recorder(Recorder),
}

impl Way {
    /// Records `rows`, and returns when they are committed.
    pub async fn record(&self, rows: Vec<Row>) {
        match self {
            Self::RawTransaction(pool) => {
                for row in &rows {
                    pool.get().await.unwrap().transaction(row).await;
                }
            }
            Self::RawStatement(pool) => {
                for row in &rows {
                    pool.get().await.unwrap().pair(row).await;
                }
            }
            Self::RawBatch(pool) => pool.get().await.unwrap().pairs(&rows).await,
            Self::RawCopy(pool) => pool.get().await.unwrap().copy(&rows).await,
            Self::Statement(pool) => {
                for Row { record, .. } in &rows {
                    let conn = &mut pool.get().await.unwrap();
                    let outcome =
                        record::usage_with_request(conn, &record.usage, &record.request).await;
                    assert_eq!(outcome.unwrap(), Outcome::Recorded);
                }
            }
            Self::Batch(pool) => {
                let conn = &mut pool.get().await.unwrap();
                for outcome in record::many(conn, &rows).await.unwrap() {
                    assert_eq!(outcome.unwrap(), Outcome::Recorded);
                }
            }
            Self::Recorder(recorder) => {
                for row in rows {
                    let receipt = recorder.record(row.record).await.unwrap();
                    assert_eq!(receipt.await.unwrap(), Outcome::Recorded);
                }
            }
        }
    }

    /// Ends what it has running.
    pub async fn end(&self) {
        if let Self::Recorder(recorder) = self {
            let left = recorder.shutdown(Duration::from_secs(10)).await;
            assert!(left.is_empty(), "{left:?}");
        }
    }
}
