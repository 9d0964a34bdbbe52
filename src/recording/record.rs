//! Recording over the caller's own connection: one record or many, idempotent.
//!
//! A usage and its request are stored 1:1. Each function may be repeated with the same content,
//! also after an error that left open whether it was recorded. In a transaction of the caller, all
//! is committed with it.
//!
//! # Cancellation
//!
//! The server may still finish a statement whose future was dropped. Repeating the call is safe.

use diesel_async::AsyncPgConnection;
use std::borrow::Borrow;

use crate::error::{Error, Result};
use crate::recording::insertion::{Entry, insert};
use crate::recording::types::{Outcome, Record};
use crate::tables::requests::NewRequest;
use crate::tables::usages::Usage;
use crate::values::{InvalidValue, UsageId};

/// Maximum number of records in one call.
pub const MAX_RECORDS: usize = 10_000;

/// Maximum size of the texts of one call, in bytes. PostgreSQL takes messages of up to 1 GiB.
const MAX_TEXT_BYTES: usize = 512 << 20;

/// Records a usage with its request in one statement: both or neither, in one round trip.
///
/// A usage that was recorded earlier without a request gets its request now. A transaction compares
/// a record that is stored already.
///
/// # Errors
///
/// - [`Error::RecordedDifferently`] when the usage id was recorded with other content;
/// - [`Error::VersionNotFound`] when there is no such version;
/// - [`Error::Invalid`] when a text contains a NUL character or exceeds 65,536 bytes, or 2,048
///   bytes if it is indexed;
/// - [`Error::UsageNotFound`] when the stored usage was deleted concurrently;
/// - [`Error::UnknownConstraint`] when the host's own constraint refuses a row;
/// - [`Error::Violated`] when another constraint of the schema refuses a row;
/// - [`Error::Unreadable`] when the stored row can't be read;
/// - [`Error::Transient`] or [`Error::Database`] when the statement fails.
#[tracing::instrument(level = "debug", skip_all, fields(usage = %record.usage.id))]
pub async fn one(conn: &mut AsyncPgConnection, record: &Record) -> Result<Outcome> {
    insert_one(conn, record.into()).await
}

/// Attributes a request to a stored usage, for hosts that bill first.
///
/// # Errors
///
/// - [`Error::UsageNotFound`] when there is no such usage;
/// - [`Error::RecordedDifferently`] when the usage has a request with other content;
/// - [`Error::VersionNotFound`] when there is no such version;
/// - [`Error::Invalid`] when the client's request id contains a NUL character or exceeds 2,048
///   bytes;
/// - [`Error::UnknownConstraint`] when the host's own constraint refuses the row;
/// - [`Error::Violated`] when another constraint of the schema refuses the row;
/// - [`Error::Unreadable`] when the stored row can't be read;
/// - [`Error::Transient`] or [`Error::Database`] when the statement fails.
#[tracing::instrument(level = "debug", skip_all, fields(%usage))]
pub async fn attribute(
    conn: &mut AsyncPgConnection,
    usage: UsageId,
    request: &NewRequest,
) -> Result<Outcome> {
    insert_one(conn, (usage, request).into()).await
}

/// Records up to [`MAX_RECORDS`] usages with their requests in one statement.
///
/// Returns the outcome of each record, in their order. A record with an inner error keeps no other
/// from being recorded. A usage that was recorded earlier without a request gets its request now.
/// Of several records with one id, the first is recorded and the others are compared with it.
///
/// # Errors
///
/// An inner error concerns its record alone:
///
/// - [`Error::RecordedDifferently`] when the usage id was recorded with other content;
/// - [`Error::Invalid`] when a text contains a NUL character or exceeds 65,536 bytes, or 2,048
///   bytes if it is indexed;
/// - [`Error::UsageNotFound`] when the stored usage was deleted concurrently.
///
/// The outer error concerns the whole call:
///
/// - [`Error::Violated`] when a record names a version that doesn't exist, or
///   [`Error::VersionNotFound`] when it is the only one to insert; a [`Recorder`](crate::Recorder)
///   finds the record and records the others;
/// - [`Error::Violated`] or [`Error::UnknownConstraint`] when another constraint refuses a row;
/// - [`Error::Invalid`] when there are more than [`MAX_RECORDS`] records, or their texts exceed
///   512 MiB;
/// - [`Error::Unreadable`] when a stored row can't be read;
/// - [`Error::Transient`] or [`Error::Database`] when a statement fails.
///
/// If the insertion fails, no record is written. If reading existing rows fails, some records may
/// have been written; retrying is safe.
#[tracing::instrument(level = "debug", skip_all, fields(records = records.len()))]
pub async fn many<R: Borrow<Record> + Sync>(
    conn: &mut AsyncPgConnection,
    records: &[R],
) -> Result<Vec<Result<Outcome>>> {
    insert_many(conn, records.iter().map(|record| Entry::from(record.borrow())).collect()).await
}

/// Records up to [`MAX_RECORDS`] usages without requests in one statement, for hosts that bill
/// first.
///
/// Returns the outcome of each usage, in their order, as [`many`] does.
///
/// # Errors
///
/// An inner error concerns its usage alone:
///
/// - [`Error::RecordedDifferently`] when the usage id was recorded with other content;
/// - [`Error::Invalid`] when a text contains a NUL character or exceeds 65,536 bytes, or 2,048
///   bytes if it is indexed;
/// - [`Error::UsageNotFound`] when the stored usage was deleted concurrently.
///
/// The outer error concerns the whole call:
///
/// - [`Error::UnknownConstraint`] or [`Error::Violated`] when a constraint refuses a row;
/// - [`Error::Invalid`] when there are more than [`MAX_RECORDS`] usages, or their texts exceed
///   512 MiB;
/// - [`Error::Unreadable`] when a stored row can't be read;
/// - [`Error::Transient`] or [`Error::Database`] when a statement fails.
///
/// If the insertion fails, no usage is written. If reading existing rows fails, some usages may
/// have been written; retrying is safe.
#[tracing::instrument(level = "debug", skip_all, fields(usages = usages.len()))]
pub async fn usages<U: Borrow<Usage> + Sync>(
    conn: &mut AsyncPgConnection,
    usages: &[U],
) -> Result<Vec<Result<Outcome>>> {
    insert_many(conn, usages.iter().map(|usage| Entry::from(usage.borrow())).collect()).await
}

/// Attributes up to [`MAX_RECORDS`] requests to stored usages in one statement.
///
/// Returns the outcome of each request, in their order, as [`many`] does.
///
/// # Errors
///
/// An inner error concerns its request alone:
///
/// - [`Error::UsageNotFound`] when there is no such usage;
/// - [`Error::RecordedDifferently`] when the usage has a request with other content;
/// - [`Error::Invalid`] when the client's request id contains a NUL character or exceeds 2,048
///   bytes.
///
/// The outer error concerns the whole call:
///
/// - [`Error::Violated`] when a request names a version that doesn't exist, or
///   [`Error::VersionNotFound`] when it is the only one to insert;
/// - [`Error::Violated`] or [`Error::UnknownConstraint`] when another constraint refuses a row;
/// - [`Error::Invalid`] when there are more than [`MAX_RECORDS`] requests, or their texts exceed
///   512 MiB;
/// - [`Error::Unreadable`] when a stored row can't be read;
/// - [`Error::Transient`] or [`Error::Database`] when a statement fails.
///
/// If the insertion fails, no request is written. If reading existing rows fails, some requests may
/// have been written; retrying is safe.
#[tracing::instrument(level = "debug", skip_all, fields(requests = requests.len()))]
pub async fn attribute_many<R: Borrow<NewRequest> + Sync>(
    conn: &mut AsyncPgConnection,
    requests: &[(UsageId, R)],
) -> Result<Vec<Result<Outcome>>> {
    let entries = requests.iter().map(|(usage, request)| Entry::from((*usage, request.borrow())));
    insert_many(conn, entries.collect()).await
}

async fn insert_one(conn: &mut AsyncPgConnection, entry: Entry<'_>) -> Result<Outcome> {
    let outcomes = insert(conn, vec![entry]).await?;
    outcomes.into_iter().next().unwrap_or(Err(Error::UsageNotFound(entry.id)))
}

async fn insert_many(
    conn: &mut AsyncPgConnection,
    entries: Vec<Entry<'_>>,
) -> Result<Vec<Result<Outcome>>> {
    if entries.len() > MAX_RECORDS {
        return Err(InvalidValue::new("records", "must be at most 10000 at a time").into());
    }
    if entries.iter().map(Entry::text_bytes).sum::<usize>() > MAX_TEXT_BYTES {
        return Err(InvalidValue::new("records", "must have at most 512 MiB of text").into());
    }
    insert(conn, entries).await
}
