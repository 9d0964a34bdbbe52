//! `WITH`, also of statements that write.
//!
//! Diesel has no common table expressions (<https://github.com/diesel-rs/diesel/issues/356>), so
//! that each project writes its own (<https://github.com/oxidecomputer/omicron/issues/4190>).

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use std::marker::PhantomData;

/// `WITH tables query`. Several tables are a tuple.
pub(crate) struct With<T, Q> {
    tables: T,
    query: Q,
}

/// The query `query`, which may name `tables`.
pub(crate) fn with<T, Q>(tables: T, query: Q) -> With<T, Q> {
    With { tables, query }
}

/// A table that a `WITH` clause makes, declared by `diesel::table!`.
pub(crate) trait CommonTable {
    /// Its name and, where its query doesn't name them, its columns.
    const DEFINITION: &'static str;
}

/// `definition AS (query)`.
pub(crate) struct As<T, Q> {
    query: Q,
    table: PhantomData<T>,
}

/// The common table `T`, made by `query`, whose columns are the table's.
pub(crate) fn common_table<T: CommonTable, Q>(query: Q) -> As<T, Q> {
    As { query, table: PhantomData }
}

impl<T: QueryFragment<Pg>, Q: QueryFragment<Pg>> QueryFragment<Pg> for With<T, Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH ");
        self.tables.walk_ast(out.reborrow())?;
        out.push_sql(" ");
        self.query.walk_ast(out)
    }
}

impl<T: CommonTable, Q: QueryFragment<Pg>> QueryFragment<Pg> for As<T, Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(T::DEFINITION);
        out.push_sql(" AS (");
        self.query.walk_ast(out.reborrow())?;
        out.push_sql(")");
        Ok(())
    }
}

// The text depends on the types of the parts alone, so that the prepared statement is cached under
// them.

impl<T: QueryId, Q: QueryId> QueryId for With<T, Q> {
    type QueryId = With<T::QueryId, Q::QueryId>;
    const HAS_STATIC_QUERY_ID: bool = T::HAS_STATIC_QUERY_ID && Q::HAS_STATIC_QUERY_ID;
}

impl<T: 'static, Q: QueryId> QueryId for As<T, Q> {
    type QueryId = As<T, Q::QueryId>;
    const HAS_STATIC_QUERY_ID: bool = Q::HAS_STATIC_QUERY_ID;
}

impl<T, Q: Query> Query for With<T, Q> {
    type SqlType = Q::SqlType;
}
