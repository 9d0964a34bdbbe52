//! Inserting what isn't there yet, and telling of what is there whether it is the same.

use diesel_async::AsyncPgConnection;
use std::collections::{HashMap, HashSet};

use crate::error::{Constraint, Error, Result};
use crate::recording::statements::{many, one};
use crate::sql::run::Returns;
use crate::tables::requests::{NewRequest, Request};
use crate::tables::usages::Usage;
use crate::values::{InvalidValue, UsageId};

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
        Insertion::from(self).check()
    }

    /// Gives back the memory that its texts don't use, and tells how many bytes they do.
    pub(crate) fn shrink_to_fit(&mut self) -> usize {
        self.usage.shrink_to_fit() + self.request.shrink_to_fit()
    }
}

/// A usage, its request, or both.
#[derive(Clone, Copy)]
pub(super) struct Insertion<'r> {
    pub(super) id: UsageId,
    pub(super) usage: Option<&'r Usage>,
    pub(super) request: Option<&'r NewRequest>,
}

/// How often a request may come just after it was looked for.
const MAX_ROUNDS: usize = 10;

/// What is there, by id.
type Stored = HashMap<UsageId, (Usage, Option<Request>)>;

impl<'r> From<&'r Record> for Insertion<'r> {
    fn from(Record { usage, request }: &'r Record) -> Self {
        Self { id: usage.id, usage: Some(usage), request: Some(request) }
    }
}

impl<'r> From<&'r Usage> for Insertion<'r> {
    fn from(usage: &'r Usage) -> Self {
        Self { id: usage.id, usage: Some(usage), request: None }
    }
}

impl<'r> From<(UsageId, &'r NewRequest)> for Insertion<'r> {
    fn from((id, request): (UsageId, &'r NewRequest)) -> Self {
        Self { id, usage: None, request: Some(request) }
    }
}

impl Insertion<'_> {
    pub(super) fn check(&self) -> Result<(), InvalidValue> {
        self.usage.map_or(Ok(()), Usage::check)?;
        self.request.map_or(Ok(()), NewRequest::check)
    }

    /// How the row ends that wasn't inserted; `None` where its request still can be.
    fn compare(&self, stored: &Stored) -> Option<Result<Outcome>> {
        let Some((usage, request)) = stored.get(&self.id) else {
            return Some(Err(Error::UsageNotFound(self.id)));
        };
        let mut columns = self.usage.map_or_else(Vec::new, |new| new.differences(usage));
        if let (Some(new), Some(request)) = (self.request, request) {
            columns.extend(new.differences(request));
        }
        if !columns.is_empty() {
            return Some(Err(Error::RecordedDifferently { usage: self.id, columns }));
        }
        let is_complete = self.request.is_none() || request.is_some();
        is_complete.then_some(Ok(Outcome::AlreadyRecorded))
    }
}

/// Inserts rows that are all of one kind, and tells of each how that ended, in their order.
///
/// A row that can't be inserted whatever else is there has an error of its own; any other error is the statement's.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    mut rows: Vec<Insertion<'_>>,
) -> Result<Vec<Result<Outcome>>> {
    let refused = |row: &Insertion<'_>| row.check().err().map(|invalid| Err(invalid.into()));
    let mut outcomes: Vec<Option<Result<Outcome>>> = rows.iter().map(refused).collect();
    let mut open: Vec<usize> = (0..rows.len()).filter(|at| outcomes[*at].is_none()).collect();
    for _ in 0..MAX_ROUNDS {
        if open.is_empty() {
            break;
        }
        let mut inserted = insert_new(conn, open.iter().map(|at| rows[*at]).collect()).await?;
        open.retain(|at| {
            let is_inserted = inserted.remove(&rows[*at].id);
            if is_inserted {
                outcomes[*at] = Some(Ok(Outcome::Recorded));
            }
            !is_inserted
        });
        let stored = stored(conn, open.iter().map(|at| rows[*at].id).collect()).await?;
        open.retain(|at| {
            outcomes[*at] = rows[*at].compare(&stored);
            outcomes[*at].is_none()
        });
        // What is still open has its usage. A request may come between the insertion and the look, so both are
        // repeated.
        for row in &mut rows {
            row.usage = None;
        }
    }
    if open.is_empty() {
        Ok(outcomes.into_iter().flatten().collect())
    } else {
        let hidden = "a request is neither inserted nor there, as if something hid it";
        Err(Error::database(hidden))
    }
}

/// Inserts of each id the first row, unless it is there already, and returns the ids of those inserted.
async fn insert_new(
    conn: &mut AsyncPgConnection,
    mut rows: Vec<Insertion<'_>>,
) -> Result<HashSet<UsageId>> {
    // In the order of their ids, so that transactions that insert some of the same never wait for each other in a circle.
    rows.sort_by_key(|row| row.id);
    rows.dedup_by_key(|row| row.id);
    let usages: Vec<_> = rows.iter().filter_map(|row| row.usage).collect();
    let requests: Vec<_> = rows.iter().filter_map(|row| Some((row.id, row.request?))).collect();
    let inserted = match (&usages[..], &requests[..]) {
        ([usage], [(_, request)]) => {
            one::insert_usage_with_request_query(usage, request).load(conn).await
        }
        ([], [(id, request)]) => one::insert_request_query(*id, request).load(conn).await,
        ([], requests) => many::insert_requests_query(requests).load(conn).await,
        (usages, []) => {
            let inserted = many::insert_usages_query(usages).load(conn).await;
            inserted.map(|rows| rows.into_iter().map(|(id, _)| id).collect())
        }
        (usages, requests) => {
            many::insert_usages_with_requests_query(usages, requests).load(conn).await
        }
    };
    let inserted = inserted.map_err(|error| name_version(error, &requests))?;
    Ok(inserted.into_iter().collect())
}

async fn stored(conn: &mut AsyncPgConnection, ids: Vec<UsageId>) -> Result<Stored> {
    if ids.is_empty() {
        return Ok(Stored::new());
    }
    let stored = many::list_recorded_query(ids).load(conn).await?;
    Ok(stored.into_iter().map(|(usage, request)| (usage.id, (usage, request))).collect())
}

/// Only of a single request is it known which version isn't there.
fn name_version(error: Error, requests: &[(UsageId, &NewRequest)]) -> Error {
    match (error, requests) {
        (Error::Violated { constraint: Constraint::RequestVersion }, [(_, request)]) => {
            Error::VersionNotFound(request.variant_version_id)
        }
        (error, _) => error,
    }
}
