//! Pages of a list that is ordered by an instant and, within it, by id.

use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{Bool, Timestamptz, Uuid};
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

impl<Id: Copy> Page<Id> {
    /// The rows that follow the cursor, if there is one, in a list that is ordered by `at` and `id`, newest first.
    pub(crate) fn newest_first<A, I>(&self, at: A, id: I) -> Option<Keyset<A, I, Id>> {
        self.after.map(|cursor| Keyset { at, id, comparison: " < ", cursor })
    }

    /// The rows that follow the cursor, if there is one, in a list that is ordered by `at` and `id`, oldest first.
    pub(crate) fn oldest_first<A, I>(&self, at: A, id: I) -> Option<Keyset<A, I, Id>> {
        self.after.map(|cursor| Keyset { at, id, comparison: " > ", cursor })
    }
}

/// The keyset predicate of a page: `(at, id) < (cursor.at, cursor.id)`.
///
/// Compared as rows, so that an index on both columns is entered at the cursor. Diesel compares rows only by way of
/// types that no function can name (<https://github.com/diesel-rs/diesel/discussions/4076>).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keyset<A, I, Id> {
    at: A,
    id: I,
    comparison: &'static str,
    cursor: Cursor<Id>,
}

impl<A, I, Id> Expression for Keyset<A, I, Id> {
    type SqlType = Bool;
}

impl<A, I, Id> QueryFragment<Pg> for Keyset<A, I, Id>
where
    A: QueryFragment<Pg>,
    I: QueryFragment<Pg>,
    Id: ToSql<Uuid, Pg>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("(");
        self.at.walk_ast(out.reborrow())?;
        out.push_sql(", ");
        self.id.walk_ast(out.reborrow())?;
        out.push_sql(")");
        out.push_sql(self.comparison);
        out.push_sql("(");
        out.push_bind_param::<Timestamptz, _>(&self.cursor.at)?;
        out.push_sql(", ");
        out.push_bind_param::<Uuid, _>(&self.cursor.id)?;
        out.push_sql(")");
        Ok(())
    }
}

/// A page is part of a boxed query, which is cached under its text.
impl<A, I, Id> QueryId for Keyset<A, I, Id> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<A, I, Id, G> ValidGrouping<G> for Keyset<A, I, Id> {
    type IsAggregate = diesel::expression::is_aggregate::No;
}

impl<A: AppearsOnTable<QS>, I: AppearsOnTable<QS>, Id, QS> AppearsOnTable<QS> for Keyset<A, I, Id> {}

impl<A: SelectableExpression<QS>, I: SelectableExpression<QS>, Id, QS> SelectableExpression<QS>
    for Keyset<A, I, Id>
{
}
