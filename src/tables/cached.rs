//! Updates as prepared statements that are kept.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;

/// A statement that is prepared once on a connection and kept under its text.
///
/// Diesel prepares an update anew each time, since a changeset may leave columns out; those here have
/// a handful of texts at most.
pub(crate) struct Cached<S>(pub(crate) S);

impl<S: QueryFragment<Pg>> QueryFragment<Pg> for Cached<S> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, _: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<S> QueryId for Cached<S> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<S: Query> Query for Cached<S> {
    type SqlType = S::SqlType;
}
