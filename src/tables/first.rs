//! The first row of a query, with the `LIMIT 1` in the text.

use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::methods::SingleValueDsl;
use diesel::result::QueryResult;

/// `(query LIMIT 1)`, as a query of its own or as a value in another.
///
/// Diesel's own limit is a bind, for which a plan that is kept expects a tenth of all rows: on a long
/// history the planner would rather plan anew each time. As a value it has the type and the place that
/// Diesel gives `query.single_value()`.
#[derive(Debug, Clone, Copy, QueryId)]
pub(crate) struct First<Q>(pub(crate) Q);

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for First<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("(");
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" LIMIT 1)");
        Ok(())
    }
}

impl<Q: Query> Query for First<Q> {
    type SqlType = Q::SqlType;
}

impl<Q: SingleValueDsl<Output: Expression>> Expression for First<Q> {
    type SqlType = <Q::Output as Expression>::SqlType;
}

impl<Q: SingleValueDsl, G> ValidGrouping<G> for First<Q>
where
    Q::Output: ValidGrouping<G>,
{
    type IsAggregate = <Q::Output as ValidGrouping<G>>::IsAggregate;
}

impl<Q: SingleValueDsl<Output: AppearsOnTable<QS>>, QS> AppearsOnTable<QS> for First<Q> {}
impl<Q: SingleValueDsl<Output: SelectableExpression<QS>>, QS> SelectableExpression<QS>
    for First<Q>
{
}
