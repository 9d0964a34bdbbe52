//! Updates whose prepared statement a connection keeps.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;

/// A statement that a connection prepares once and keeps under its text.
///
/// Diesel prepares each update anew (<https://github.com/diesel-rs/diesel/pull/279>), since the
/// same type of changeset may set fewer columns. The updates here have a handful of texts.
pub(crate) struct Kept<S>(pub(crate) S);

impl<S: QueryFragment<Pg>> QueryFragment<Pg> for Kept<S> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, _: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<S> QueryId for Kept<S> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<S: Query> Query for Kept<S> {
    type SqlType = S::SqlType;
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;

    use super::*;
    use crate::schema::model_experiment as experiment;

    /// When this fails, Diesel keeps the prepared statements of updates itself.
    #[test]
    fn diesel_still_prepares_each_update_anew() {
        let update = diesel::update(experiment::table).set(experiment::is_archived.eq(true));
        assert!(!update.is_safe_to_cache_prepared(&Pg).unwrap());
        assert!(Kept(update).is_safe_to_cache_prepared(&Pg).unwrap());
    }
}
