//! The paths that records take to the database.

use model_experiments::recording::{Outcome, record};
use model_experiments::{Pool, Recorder};
use std::time::Duration;

use crate::raw;
use crate::record::PreparedRecord;

/// A path that records take to the database.
#[derive(Clone)]
pub enum Path {
    /// BEGIN, two insertions and COMMIT per record, by tokio-postgres.
    RawTransaction(raw::Pool),
    /// The crate's statement per record, by tokio-postgres.
    RawStatement(raw::Pool),
    /// The crate's statement for all records, by tokio-postgres.
    RawBatch(raw::Pool),
    /// BEGIN, two COPYs and COMMIT for all records, by tokio-postgres.
    RawCopy(raw::Pool),
    /// [`record::one`] per record.
    One(Pool),
    /// [`record::many`] for all records.
    Many(Pool),
    /// The recorder, and a wait for the receipt of each record.
    Recorder(Recorder),
}

impl Path {
    /// Records `records`, and returns when they are committed.
    pub async fn record(&self, records: Vec<PreparedRecord>) {
        match self {
            Self::RawTransaction(pool) => {
                for record in &records {
                    pool.get().await.unwrap().transaction(record).await;
                }
            }
            Self::RawStatement(pool) => {
                for record in &records {
                    pool.get().await.unwrap().pair(record).await;
                }
            }
            Self::RawBatch(pool) => pool.get().await.unwrap().pairs(&records).await,
            Self::RawCopy(pool) => pool.get().await.unwrap().copy(&records).await,
            Self::One(pool) => {
                for PreparedRecord { record, .. } in &records {
                    let conn = &mut pool.get().await.unwrap();
                    assert_eq!(record::one(conn, record).await.unwrap(), Outcome::Recorded);
                }
            }
            Self::Many(pool) => {
                let conn = &mut pool.get().await.unwrap();
                for outcome in record::many(conn, &records).await.unwrap() {
                    assert_eq!(outcome.unwrap(), Outcome::Recorded);
                }
            }
            Self::Recorder(recorder) => {
                for PreparedRecord { record, .. } in records {
                    let receipt = recorder.submit(record).await.unwrap();
                    assert_eq!(receipt.await.unwrap(), Outcome::Recorded);
                }
            }
        }
    }

    /// Stops the recorder, if there is one.
    pub async fn end(&self) {
        if let Self::Recorder(recorder) = self {
            let left = recorder.shutdown(Duration::from_secs(10)).await;
            assert!(left.is_empty(), "{left:?}");
        }
    }
}
