//! The one clause of the statements that record which Diesel lacks: `WITH`, and the tables that it makes.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};

use crate::schema::microdollar_usage;

diesel::table! {
    /// The usages that the statement itself inserted.
    recorded_usage (id) {
        id -> Uuid,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    /// The requests that the statement is to insert.
    new_request (usage_id) {
        usage_id -> Uuid,
        variant_version_id -> Uuid,
        allocation_subject -> Text,
        client_request_id -> Nullable<Text>,
        system_prompt_sha256 -> Text,
        request_body_sha256 -> Text,
        was_truncated -> Bool,
    }
}

diesel::joinable!(new_request -> recorded_usage (usage_id));
diesel::joinable!(new_request -> microdollar_usage (usage_id));
diesel::allow_tables_to_appear_in_same_query!(new_request, recorded_usage, microdollar_usage);

/// `WITH tables query`, where several tables are a tuple.
pub(super) struct With<T, Q>(pub(super) T, pub(super) Q);

/// `recorded_usage AS (insertion)`, of an insertion of usages that returns the table's columns.
pub(super) struct RecordedUsage<I>(pub(super) I);

/// `new_request (columns) AS (rows)`, of a query for the table's columns.
pub(super) struct NewRequests<R>(pub(super) R);

impl<T: QueryFragment<Pg>, Q: QueryFragment<Pg>> QueryFragment<Pg> for With<T, Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH ");
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" ");
        self.1.walk_ast(out)
    }
}

impl<I: QueryFragment<Pg>> QueryFragment<Pg> for RecordedUsage<I> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("recorded_usage AS (");
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(")");
        Ok(())
    }
}

impl<R: QueryFragment<Pg>> QueryFragment<Pg> for NewRequests<R> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "new_request (usage_id, variant_version_id, allocation_subject, client_request_id, \
             system_prompt_sha256, request_body_sha256, was_truncated) AS (",
        );
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(")");
        Ok(())
    }
}

// The text depends on the types of the parts alone, so the prepared statement is cached under them.

impl<T: QueryId, Q: QueryId> QueryId for With<T, Q> {
    type QueryId = With<T::QueryId, Q::QueryId>;
    const HAS_STATIC_QUERY_ID: bool = T::HAS_STATIC_QUERY_ID && Q::HAS_STATIC_QUERY_ID;
}

impl<I: QueryId> QueryId for RecordedUsage<I> {
    type QueryId = RecordedUsage<I::QueryId>;
    const HAS_STATIC_QUERY_ID: bool = I::HAS_STATIC_QUERY_ID;
}

impl<R: QueryId> QueryId for NewRequests<R> {
    type QueryId = NewRequests<R::QueryId>;
    const HAS_STATIC_QUERY_ID: bool = R::HAS_STATIC_QUERY_ID;
}

impl<T, Q: Query> Query for With<T, Q> {
    type SqlType = Q::SqlType;
}
