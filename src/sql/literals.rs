//! Literals in the text of a query, in place of binds.
//!
//! Diesel's own literal, [`sql`](diesel::dsl::sql), is prepared anew on each execution
//! (<https://github.com/diesel-rs/diesel/pull/279>).

use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::{Integer, Text};

use crate::values::Status;

/// A status as a literal.
///
/// A generic plan can't use a partial index on the status if the status is a bind
/// (<https://www.postgresql.org/docs/current/indexes-partial.html>).
#[derive(Debug, Clone, Copy)]
pub(crate) struct StatusLiteral(pub(crate) Status);

/// A number as a literal, for a limit that is always the same.
///
/// For a bind, PostgreSQL may plan each execution anew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IntegerLiteral(pub(crate) i32);

impl QueryFragment<Pg> for StatusLiteral {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("'");
        out.push_sql(self.0.as_str());
        out.push_sql("'");
        Ok(())
    }
}

impl QueryFragment<Pg> for IntegerLiteral {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(&self.0.to_string());
        Ok(())
    }
}

macro_rules! literal {
    ($literal:ty, $sql_type:ty) => {
        impl Expression for $literal {
            type SqlType = $sql_type;
        }

        /// The text depends on the value, so that the statement is cached under its text.
        impl QueryId for $literal {
            type QueryId = ();
            const HAS_STATIC_QUERY_ID: bool = false;
        }

        impl<G> ValidGrouping<G> for $literal {
            type IsAggregate = diesel::expression::is_aggregate::Never;
        }

        impl<QS> AppearsOnTable<QS> for $literal {}
        impl<QS> SelectableExpression<QS> for $literal {}
    };
}

literal!(StatusLiteral, Text);
literal!(IntegerLiteral, Integer);

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
        assert!(is_kept(IntegerLiteral(1).eq(IntegerLiteral(2))));
    }
}
