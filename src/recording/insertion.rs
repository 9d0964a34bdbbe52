//! Idempotent insertion: inserts entries that are new, and compares the others with stored rows.

use diesel_async::AsyncPgConnection;
use std::collections::{HashMap, HashSet};

use crate::database::transaction::transaction;
use crate::error::{Constraint, Error, Result};
use crate::recording::statements::{many, one};
use crate::recording::types::{Outcome, Record};
use crate::sql::run::{Returns, is_read_only_by_default};
use crate::tables::requests::{NewRequest, Request};
use crate::tables::usages::Usage;
use crate::values::{InvalidValue, UsageId};

/// Rounds of insertion and comparison before insertion gives up.
///
/// The second inserts requests of usages that were stored without one. More rounds mean that
/// concurrent sessions record the same usages.
const MAX_ROUNDS: usize = 10;

/// What to insert under one usage id: a usage, a request, or both.
#[derive(Clone, Copy)]
pub(super) struct Entry<'r> {
    pub(super) id: UsageId,
    pub(super) usage: Option<&'r Usage>,
    pub(super) request: Option<&'r NewRequest>,
}

/// Stored usages and their requests, by id.
type Stored = HashMap<UsageId, (Usage, Option<Request>)>;

impl<'r> From<&'r Record> for Entry<'r> {
    fn from(Record { usage, request }: &'r Record) -> Self {
        Self { id: usage.id, usage: Some(usage), request: Some(request) }
    }
}

impl<'r> From<&'r Usage> for Entry<'r> {
    fn from(usage: &'r Usage) -> Self {
        Self { id: usage.id, usage: Some(usage), request: None }
    }
}

impl<'r> From<(UsageId, &'r NewRequest)> for Entry<'r> {
    fn from((id, request): (UsageId, &'r NewRequest)) -> Self {
        Self { id, usage: None, request: Some(request) }
    }
}

impl Entry<'_> {
    /// Size of its texts.
    pub(super) fn text_bytes(&self) -> usize {
        let of_usage = self.usage.into_iter().flat_map(|usage| {
            [
                Some(&usage.kilo_user_id),
                usage.provider.as_ref(),
                usage.model.as_ref(),
                usage.requested_model.as_ref(),
                usage.inference_provider.as_ref(),
                usage.project_id.as_ref(),
            ]
        });
        let of_request = self.request.map(|request| request.client_request_id.as_ref());
        of_usage.chain(of_request).flatten().map(String::len).sum()
    }

    fn check(&self) -> Result<(), InvalidValue> {
        self.usage.map_or(Ok(()), Usage::check)?;
        self.request.map_or(Ok(()), NewRequest::check)
    }

    /// The outcome of an entry that wasn't inserted; `None` if its request is still to be inserted.
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

/// Inserts entries of one kind; returns the outcome of each, in their order.
///
/// The inner error concerns its entry alone. The outer error concerns the whole statement.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    mut entries: Vec<Entry<'_>>,
) -> Result<Vec<Result<Outcome>>> {
    let invalid = |entry: &Entry<'_>| entry.check().err().map(|invalid| Err(invalid.into()));
    let mut outcomes: Vec<Option<Result<Outcome>>> = entries.iter().map(invalid).collect();
    let mut pending: Vec<usize> =
        (0..entries.len()).filter(|index| outcomes[*index].is_none()).collect();
    // Most are new, and take one statement.
    let new = pending.iter().map(|index| entries[*index]).collect();
    let inserted = insert_new(conn, new).await?;
    note_inserted(inserted, &entries, &mut pending, &mut outcomes);
    for _ in 0..MAX_ROUNDS {
        if pending.is_empty() {
            break;
        }
        let rest = pending.iter().map(|index| entries[*index]).collect();
        let (inserted, stored) = insert_and_list(conn, rest).await?;
        note_inserted(inserted, &entries, &mut pending, &mut outcomes);
        pending.retain(|index| {
            outcomes[*index] = entries[*index].compare(&stored);
            outcomes[*index].is_none()
        });
        // Entries still pending have a stored usage without a request: insert the request alone.
        for entry in &mut entries {
            entry.usage = None;
        }
    }
    if pending.is_empty() {
        Ok(outcomes.into_iter().flatten().collect())
    } else {
        Err(Error::database(
            "a request was neither inserted nor found; check triggers and row-level security",
        ))
    }
}

/// Takes the first pending entry of each inserted id for recorded.
fn note_inserted(
    mut inserted: HashSet<UsageId>,
    entries: &[Entry<'_>],
    pending: &mut Vec<usize>,
    outcomes: &mut [Option<Result<Outcome>>],
) {
    pending.retain(|index| {
        let is_inserted = inserted.remove(&entries[*index].id);
        if is_inserted {
            outcomes[*index] = Some(Ok(Outcome::Recorded));
        }
        !is_inserted
    });
}

/// Inserts entries that are new, and lists the others as they are stored.
///
/// One transaction, since a load balancer may send a `SELECT` to a standby, which lags, but not one
/// behind a write of the same transaction.
async fn insert_and_list(
    conn: &mut AsyncPgConnection,
    entries: Vec<Entry<'_>>,
) -> Result<(HashSet<UsageId>, Stored)> {
    transaction(conn, async |conn| {
        let ids = entries.iter().map(|entry| entry.id).collect();
        let inserted = insert_new(conn, entries).await?;
        Ok((inserted, list_stored(conn, ids).await?))
    })
    .await
}

/// Inserts the first entry of each id unless it is stored already; returns the inserted ids.
async fn insert_new(
    conn: &mut AsyncPgConnection,
    mut entries: Vec<Entry<'_>>,
) -> Result<HashSet<UsageId>> {
    if entries.is_empty() {
        return Ok(HashSet::new());
    }
    // One order for all transactions, so that concurrent insertions of the same ids can't deadlock.
    entries.sort_by_key(|entry| entry.id);
    entries.dedup_by_key(|entry| entry.id);
    match insert_rows(conn, &entries).await {
        Err(error) if is_read_only_by_default(conn, &error) => {
            transaction(conn, async move |conn| insert_rows(conn, &entries).await).await
        }
        inserted => inserted,
    }
}

/// Inserts entries of different ids in one statement.
async fn insert_rows(
    conn: &mut AsyncPgConnection,
    entries: &[Entry<'_>],
) -> Result<HashSet<UsageId>> {
    let usages: Vec<_> = entries.iter().filter_map(|entry| entry.usage).collect();
    let requests: Vec<_> =
        entries.iter().filter_map(|entry| Some((entry.id, entry.request?))).collect();
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

async fn list_stored(conn: &mut AsyncPgConnection, ids: Vec<UsageId>) -> Result<Stored> {
    if ids.is_empty() {
        return Ok(Stored::new());
    }
    let stored = many::list_recorded_query(ids).load(conn).await?;
    Ok(stored.into_iter().map(|(usage, request)| (usage.id, (usage, request))).collect())
}

/// Names the missing version, which a violation doesn't, if the statement had a single request.
fn name_version(error: Error, requests: &[(UsageId, &NewRequest)]) -> Error {
    match (error, requests) {
        (Error::Violated { constraint: Constraint::RequestVersion }, [(_, request)]) => {
            Error::VersionNotFound(request.variant_version_id)
        }
        (error, _) => error,
    }
}
