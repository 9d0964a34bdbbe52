//! Recording what was served: usages and their requests, 1:1, safe to repeat.

pub(crate) mod batch;
mod insertion;
pub(crate) mod statement;
mod with;

use diesel_async::AsyncPgConnection;
use std::borrow::Borrow;

use self::insertion::{Row, insert};
use crate::error::{Error, Result};
use crate::tables::requests::NewRequest;
use crate::tables::usages::Usage;
use crate::values::{InvalidValue, UsageId};

/// The most that is recorded at once.
pub const MAX_RECORDS: usize = 10_000;

/// What one served request used and cost, and what served it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it used and cost.
    pub usage: Usage,
    /// What served it.
    pub request: NewRequest,
}

/// How recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub enum Outcome {
    /// It is recorded now.
    Recorded,
    /// It was recorded before, with the same content.
    AlreadyRecorded,
}

impl Record {
    /// The `usage` of a request, and the `request`.
    pub fn new(usage: Usage, request: NewRequest) -> Self {
        Self { usage, request }
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        Row::from(self).check()
    }

    /// Gives back the memory that its texts don't use, and tells how many bytes they do.
    pub(crate) fn shrink_to_fit(&mut self) -> usize {
        self.usage.shrink_to_fit() + self.request.shrink_to_fit()
    }
}

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
pub async fn usage_with_request(
    conn: &mut AsyncPgConnection,
    usage: &Usage,
    request: &NewRequest,
) -> Result<Outcome> {
    one(conn, Row { id: usage.id, usage: Some(usage), request: Some(request) }).await
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
    one(conn, Row::from((usage, request))).await
}

/// Records usages with their requests, up to [`MAX_RECORDS`] of them in one statement, and tells of each how that
/// ended, in their order.
///
/// It is as harmless to repeat as [`usage_with_request`], and a usage without a request gets it here too. A record that has
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
pub async fn record_many<R: Borrow<Record> + Sync>(
    conn: &mut AsyncPgConnection,
    records: &[R],
) -> Result<Vec<Result<Outcome>>> {
    many(conn, records.iter().map(|record| Row::from(record.borrow())).collect()).await
}

/// Records usages without their requests, as [`record_many`] does with them: where billing comes first.
///
/// # Errors
///
/// As [`record_many`], but for what concerns versions.
pub async fn record_usages<U: Borrow<Usage> + Sync>(
    conn: &mut AsyncPgConnection,
    usages: &[U],
) -> Result<Vec<Result<Outcome>>> {
    many(conn, usages.iter().map(|usage| Row::from(usage.borrow())).collect()).await
}

/// Attributes requests to usages that exist already, as [`record_many`] records both.
///
/// # Errors
///
/// As [`record_many`]; a request whose usage isn't there has [`Error::UsageNotFound`] of its own.
pub async fn attribute_many<R: Borrow<NewRequest> + Sync>(
    conn: &mut AsyncPgConnection,
    requests: &[(UsageId, R)],
) -> Result<Vec<Result<Outcome>>> {
    let rows = requests.iter().map(|(usage, request)| Row::from((*usage, request.borrow())));
    many(conn, rows.collect()).await
}

async fn one(conn: &mut AsyncPgConnection, row: Row<'_>) -> Result<Outcome> {
    let outcomes = insert(conn, vec![row]).await?;
    outcomes.into_iter().next().unwrap_or(Err(Error::UsageNotFound(row.id)))
}

async fn many(conn: &mut AsyncPgConnection, rows: Vec<Row<'_>>) -> Result<Vec<Result<Outcome>>> {
    if rows.len() > MAX_RECORDS {
        return Err(InvalidValue::new("records", "must be at most 10000 at a time").into());
    }
    insert(conn, rows).await
}
