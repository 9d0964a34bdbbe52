//! The first row of a query, with a literal `LIMIT 1`.

use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::methods::SingleValueDsl;
use diesel::result::QueryResult;

/// `(query LIMIT 1)`, as a query of its own or as a value in another.
///
/// Diesel binds its limit and keeps the prepared statement, for which PostgreSQL makes a generic
/// plan (<https://github.com/diesel-rs/diesel/issues/1028>). For a bound limit, a generic plan
/// expects a tenth of all rows. On a long history the planner then plans each execution anew.
/// A bound `LIMIT 1` is known as slow elsewhere, too:
/// <https://github.com/SeaQL/sea-query/issues/720>.
///
/// As a value it has the type that Diesel gives `query.single_value()`.
#[derive(Debug, Clone, Copy, QueryId)]
pub(crate) struct LimitOne<Q>(Q);

/// The type of [`limit_one`]'s result, by the name under which Diesel's `auto_type` looks for it.
#[expect(non_camel_case_types, reason = "named like the function")]
pub(crate) type limit_one<Q> = LimitOne<Q>;

/// The first row of `query`.
pub(crate) fn limit_one<Q>(query: Q) -> LimitOne<Q> {
    LimitOne(query)
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for LimitOne<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("(");
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" LIMIT 1)");
        Ok(())
    }
}

impl<Q: Query> Query for LimitOne<Q> {
    type SqlType = Q::SqlType;
}

impl<Q: SingleValueDsl<Output: Expression>> Expression for LimitOne<Q> {
    type SqlType = <Q::Output as Expression>::SqlType;
}

impl<Q: SingleValueDsl, G> ValidGrouping<G> for LimitOne<Q>
where
    Q::Output: ValidGrouping<G>,
{
    type IsAggregate = <Q::Output as ValidGrouping<G>>::IsAggregate;
}

impl<Q: SingleValueDsl<Output: AppearsOnTable<QS>>, QS> AppearsOnTable<QS> for LimitOne<Q> {}
impl<Q: SingleValueDsl<Output: SelectableExpression<QS>>, QS> SelectableExpression<QS>
    for LimitOne<Q>
{
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;

    use super::*;
    use crate::schema::model_experiment as experiment;

    /// When this fails, Diesel's own `limit` may do.
    #[test]
    fn diesel_still_binds_its_limit() {
        let query = experiment::table.select(experiment::id);
        let bound = diesel::debug_query::<Pg, _>(&query.limit(1)).to_string();
        assert!(bound.contains(" LIMIT $1 "), "{bound}");
        let value = diesel::select(QueryDsl::single_value(query));
        let bound = diesel::debug_query::<Pg, _>(&value).to_string();
        assert!(bound.contains(" LIMIT $1)"), "{bound}");
        let literal = diesel::debug_query::<Pg, _>(&limit_one(query)).to_string();
        assert!(literal.contains(" LIMIT 1)"), "{literal}");
    }
}
