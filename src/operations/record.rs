//! Recording what was served: a usage and its request, 1:1, safe to repeat.

pub(crate) mod statement;

use diesel::prelude::*;
use diesel_async::AsyncPgConnection;

use crate::error::{Constraint, Error, Result};
use crate::schema::{microdollar_usage, model_experiment_request};
use crate::tables::Returns;
use crate::tables::requests::{NewRequest, Request};
use crate::tables::usages::Usage;
use crate::values::UsageId;

/// How recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub enum Outcome {
    /// It is recorded now.
    Recorded,
    /// It was recorded before, with the same content.
    AlreadyRecorded,
}

/// A usage with its request, if it has one.
fn recorded(id: UsageId) -> impl Returns<(Usage, Option<Request>)> {
    microdollar_usage::table
        .left_join(model_experiment_request::table)
        .filter(microdollar_usage::id.eq(id))
        .select((Usage::as_select(), Option::<Request>::as_select()))
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
    usage.check()?;
    request.check()?;
    let inserted = statement::usage_with_request(usage, request).first(conn).await;
    if inserted.map_err(|error| name_version(error, request))?.is_some() {
        return Ok(Outcome::Recorded);
    }
    let (stored, attributed) =
        recorded(usage.id).first(conn).await?.ok_or(Error::UsageNotFound(usage.id))?;
    let mut columns = usage.differences(&stored);
    columns.extend(attributed.iter().flat_map(|stored| request.differences(stored)));
    match (columns.is_empty(), attributed) {
        (false, _) => Err(Error::RecordedDifferently { usage: usage.id, columns }),
        (true, Some(_)) => Ok(Outcome::AlreadyRecorded),
        (true, None) => attribute(conn, usage.id, request).await,
    }
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
    request.check()?;
    loop {
        let inserted = statement::request_of_usage(usage, request).first(conn).await;
        if inserted.map_err(|error| name_version(error, request))?.is_some() {
            return Ok(Outcome::Recorded);
        }
        let (_, attributed) =
            recorded(usage).first(conn).await?.ok_or(Error::UsageNotFound(usage))?;
        // A usage that has no request came after the insertion had looked for it.
        let Some(stored) = attributed else { continue };
        let columns = request.differences(&stored);
        return if columns.is_empty() {
            Ok(Outcome::AlreadyRecorded)
        } else {
            Err(Error::RecordedDifferently { usage, columns })
        };
    }
}

fn name_version(error: Error, request: &NewRequest) -> Error {
    match error {
        Error::Violated { constraint: Constraint::RequestVersion } => {
            Error::VersionNotFound(request.variant_version_id)
        }
        error => error,
    }
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};

    vec![
        query!(recorded(seed::usage(7)))
            .by("microdollar_usage_pkey", "id = ?")
            .by("model_experiment_request_pkey", "usage_id = ?")
            .rows(1, 2),
    ]
}
