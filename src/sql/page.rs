//! Pages of a list that is ordered by an instant and, within it, by id.

use diesel::dsl::{self, AsExprOf};
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_types::{Record, Timestamptz, Uuid};
use serde::{Deserialize, Serialize};

use crate::values::Timestamp;

/// A position in a list that is ordered by an instant and, within it, by id.
///
/// Pages that begin at a cursor neither repeat nor skip a row when rows are added meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cursor<Id> {
    /// The instant of the last row that was read.
    pub at: Timestamp,
    /// The id of the last row that was read.
    pub id: Id,
}

/// Which part of a list to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Page<Id> {
    after: Option<Cursor<Id>>,
    limit: u16,
}

impl<Id> Page<Id> {
    /// The first `limit` rows.
    pub fn first(limit: u16) -> Self {
        Self { after: None, limit }
    }

    /// The `limit` rows after `cursor`.
    pub fn after(cursor: Cursor<Id>, limit: u16) -> Self {
        Self { after: Some(cursor), limit }
    }

    /// How many rows to read.
    pub(crate) fn limit(&self) -> i64 {
        self.limit.into()
    }
}

/// An instant and an id, compared as a row, so that an index on both columns is entered at the
/// cursor.
///
/// Diesel's tuples are lists of columns, which have no order
/// (<https://github.com/diesel-rs/diesel/pull/1002>). As a `Record` they have
/// (<https://github.com/diesel-rs/diesel/pull/1623>).
type Row = Record<(Timestamptz, Uuid)>;
type Before<A, I, Id> = dsl::Lt<AsExprOf<(A, I), Row>, (Timestamp, Id)>;
type After<A, I, Id> = dsl::Gt<AsExprOf<(A, I), Row>, (Timestamp, Id)>;

impl<Id: Copy> Page<Id> {
    /// The rows after the cursor, if there is one. The list is ordered by `at` and `id`, newest
    /// first.
    pub(crate) fn newest_first<A, I>(&self, at: A, id: I) -> Option<Before<A, I, Id>>
    where
        (A, I): AsExpression<Row>,
        (Timestamp, Id): AsExpression<Row>,
    {
        let cursor = self.after?;
        Some((at, id).into_sql::<Row>().lt((cursor.at, cursor.id)))
    }

    /// The rows after the cursor, if there is one. The list is ordered by `at` and `id`, oldest
    /// first.
    pub(crate) fn oldest_first<A, I>(&self, at: A, id: I) -> Option<After<A, I, Id>>
    where
        (A, I): AsExpression<Row>,
        (Timestamp, Id): AsExpression<Row>,
    {
        let cursor = self.after?;
        Some((at, id).into_sql::<Row>().gt((cursor.at, cursor.id)))
    }
}
