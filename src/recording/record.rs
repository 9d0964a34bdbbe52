//! Recording usages with their requests, 1:1: one or many, safe to repeat.

use diesel_async::AsyncPgConnection;
use std::borrow::Borrow;

use crate::error::{Error, Result};
use crate::recording::insertion::{Insertion, Outcome, Record, insert};
use crate::tables::requests::NewRequest;
use crate::tables::usages::Usage;
use crate::values::{InvalidValue, UsageId};

/// The most records of one call.
pub const MAX_RECORDS: usize = 10_000;

/// Records a usage and its request in one statement: both or neither, in one round trip.
///
/// Repeating it with the same content is harmless, also after an error that left open whether it was
/// recorded. A usage that was recorded before without a request gets it now.
///
/// # Errors
///
/// - [`Error::RecordedDifferently`] when the usage id was recorded with other content;
/// - [`Error::VersionNotFound`] when there is no such version;
/// - [`Error::Invalid`] when a text contains a NUL character or exceeds 65,536 bytes, or 2,048 where it is
///   indexed.
pub async fn one(conn: &mut AsyncPgConnection, record: &Record) -> Result<Outcome> {
    insert_one(conn, record.into()).await
}

/// Attributes a request to a usage that exists already, as where billing comes first.
///
/// # Errors
///
/// - [`Error::UsageNotFound`] when there is no such usage;
/// - [`Error::RecordedDifferently`] when it has a request with other content;
/// - [`Error::VersionNotFound`] when there is no such version;
/// - [`Error::Invalid`] when a text contains a NUL character or exceeds 65,536 bytes, or 2,048 where it is
///   indexed.
pub async fn attribute(
    conn: &mut AsyncPgConnection,
    usage: UsageId,
    request: &NewRequest,
) -> Result<Outcome> {
    insert_one(conn, (usage, request).into()).await
}

/// Records usages with their requests, up to [`MAX_RECORDS`] of them in one statement, and tells of each how that
/// ended, in their order.
///
/// It is as harmless to repeat as [`one`], and a usage without a request gets it here too. A record that has
/// an error of its own, [`Error::Invalid`] or [`Error::RecordedDifferently`], keeps no other from being recorded. Of several with
/// one id, the first counts as recorded before the others.
///
/// # Errors
///
/// When the statement fails, none of them is recorded:
///
/// - [`Error::Violated`] when there is no version such as one of them names, or [`Error::VersionNotFound`] when there is but
///   one; a [`Recorder`](crate::Recorder) finds out which it is, and records the others;
/// - [`Error::Invalid`] when there are too many.
///
/// A failure on the way to what was recorded before leaves open which of them are recorded: repeat it.
pub async fn many<R: Borrow<Record> + Sync>(
    conn: &mut AsyncPgConnection,
    records: &[R],
) -> Result<Vec<Result<Outcome>>> {
    insert_many(conn, records.iter().map(|record| Insertion::from(record.borrow())).collect()).await
}

/// Records usages without their requests, as [`many`] does with them: where billing comes first.
///
/// # Errors
///
/// As [`many`], but for what concerns versions.
pub async fn usages<U: Borrow<Usage> + Sync>(
    conn: &mut AsyncPgConnection,
    usages: &[U],
) -> Result<Vec<Result<Outcome>>> {
    insert_many(conn, usages.iter().map(|usage| Insertion::from(usage.borrow())).collect()).await
}

/// Attributes requests to usages that exist already, as [`many`] records both.
///
/// # Errors
///
/// As [`many`]; a request whose usage isn't there has [`Error::UsageNotFound`] of its own.
pub async fn attribute_many<R: Borrow<NewRequest> + Sync>(
    conn: &mut AsyncPgConnection,
    requests: &[(UsageId, R)],
) -> Result<Vec<Result<Outcome>>> {
    let rows = requests.iter().map(|(usage, request)| Insertion::from((*usage, request.borrow())));
    insert_many(conn, rows.collect()).await
}

async fn insert_one(conn: &mut AsyncPgConnection, row: Insertion<'_>) -> Result<Outcome> {
    let outcomes = insert(conn, vec![row]).await?;
    outcomes.into_iter().next().unwrap_or(Err(Error::UsageNotFound(row.id)))
}

async fn insert_many(
    conn: &mut AsyncPgConnection,
    rows: Vec<Insertion<'_>>,
) -> Result<Vec<Result<Outcome>>> {
    if rows.len() > MAX_RECORDS {
        return Err(InvalidValue::new("records", "must be at most 10000 at a time").into());
    }
    insert(conn, rows).await
}
