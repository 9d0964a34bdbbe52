//! A status as a literal.

use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::Text;

use crate::values::Status;

/// A status as a literal in the text of a query.
///
/// A generic plan can't use a partial index on the status if the status is a bind
/// (<https://www.postgresql.org/docs/current/indexes-partial.html>). Diesel's own literal,
/// [`sql`](diesel::dsl::sql), is prepared anew on each execution
/// (<https://github.com/diesel-rs/diesel/pull/279>).
#[derive(Debug, Clone, Copy)]
pub(crate) struct StatusLiteral(pub(crate) Status);

impl Expression for StatusLiteral {
    type SqlType = Text;
}

impl QueryFragment<Pg> for StatusLiteral {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("'");
        out.push_sql(self.0.as_str());
        out.push_sql("'");
        Ok(())
    }
}

/// The text depends on the status, so that the statement is cached under its text.
impl QueryId for StatusLiteral {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<G> ValidGrouping<G> for StatusLiteral {
    type IsAggregate = diesel::expression::is_aggregate::Never;
}

impl<QS> AppearsOnTable<QS> for StatusLiteral {}
impl<QS> SelectableExpression<QS> for StatusLiteral {}

#[cfg(test)]
mod tests {
    use diesel::dsl::sql;
    use diesel::prelude::*;

    use super::*;
    use crate::schema::model_experiment as experiment;

    fn is_kept(predicate: impl QueryFragment<Pg>) -> bool {
        predicate.is_safe_to_cache_prepared(&Pg).unwrap()
    }

    /// When this fails, Diesel's own literal may do.
    #[test]
    fn diesel_still_prepares_its_own_literals_anew() {
        assert!(!is_kept(experiment::status.eq(sql::<Text>("'active'"))));
        assert!(is_kept(experiment::status.eq(StatusLiteral(Status::Active))));
    }
}
