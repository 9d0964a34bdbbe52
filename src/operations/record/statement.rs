//! The statements that record: insertions that Diesel types, and the one clause that it lacks.

use diesel::dsl::AsExprOf;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Bool, Nullable, Text, Uuid as SqlUuid};

use crate::schema::{microdollar_usage, model_experiment_request};
use crate::tables::Returns;
use crate::tables::requests::NewRequest;
use crate::tables::usages::Usage;
use crate::values::{AllocationSubject, RequestBodyRef, SystemPromptRef, UsageId, VersionId};

diesel::table! {
    /// The usages that the statement itself inserted.
    recorded_usage (id) {
        id -> Uuid,
        created_at -> Timestamptz,
    }
}

/// `WITH recorded_usage AS (usage) request`: an insertion of usages that returns `recorded_usage`'s
/// columns, and an insertion of requests that selects from it.
struct WithRecordedUsage<U, R> {
    usage: U,
    request: R,
}

impl<U: QueryFragment<Pg>, R: QueryFragment<Pg>> QueryFragment<Pg> for WithRecordedUsage<U, R> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH recorded_usage AS (");
        self.usage.walk_ast(out.reborrow())?;
        out.push_sql(") ");
        self.request.walk_ast(out)
    }
}

/// The text depends on the two insertions' types alone, so the prepared statement is cached under them.
impl<U: QueryId, R: QueryId> QueryId for WithRecordedUsage<U, R> {
    type QueryId = WithRecordedUsage<U::QueryId, R::QueryId>;
    const HAS_STATIC_QUERY_ID: bool = U::HAS_STATIC_QUERY_ID && R::HAS_STATIC_QUERY_ID;
}

impl<U, R: Query> Query for WithRecordedUsage<U, R> {
    type SqlType = R::SqlType;
}

/// The columns of a request: those that are its usage's, and those of its own.
type Columns = (
    (model_experiment_request::usage_id, model_experiment_request::created_at),
    (
        model_experiment_request::variant_version_id,
        model_experiment_request::allocation_subject,
        model_experiment_request::client_request_id,
        model_experiment_request::system_prompt_sha256,
        model_experiment_request::request_body_sha256,
        model_experiment_request::was_truncated,
    ),
);

/// The values of a request's own columns.
type Values<'r> = (
    AsExprOf<VersionId, SqlUuid>,
    AsExprOf<AllocationSubject, Text>,
    AsExprOf<Option<&'r str>, Nullable<Text>>,
    AsExprOf<SystemPromptRef, Text>,
    AsExprOf<RequestBodyRef, Text>,
    AsExprOf<bool, Bool>,
);

fn values(request: &NewRequest) -> Values<'_> {
    (
        request.variant_version_id.into_sql::<SqlUuid>(),
        request.allocation_subject.into_sql::<Text>(),
        request.client_request_id.as_deref().into_sql::<Nullable<Text>>(),
        request.system_prompt_sha256.into_sql::<Text>(),
        request.request_body_sha256.into_sql::<Text>(),
        request.was_truncated.into_sql::<Bool>(),
    )
}

/// Inserts the usage and its request, and returns the usage's id; nothing when the usage is there already.
///
/// The usage is written first, and the request takes its id and instant.
pub(super) fn usage_with_request(usage: &Usage, request: &NewRequest) -> impl Returns<UsageId> {
    WithRecordedUsage {
        usage: diesel::insert_into(microdollar_usage::table)
            .values(usage)
            .on_conflict(microdollar_usage::id)
            .do_nothing()
            .returning((microdollar_usage::id, microdollar_usage::created_at)),
        request: recorded_usage::table
            .select(((recorded_usage::id, recorded_usage::created_at), values(request)))
            .insert_into(model_experiment_request::table)
            .into_columns(Columns::default())
            .returning(model_experiment_request::usage_id),
    }
}

/// Inserts the request of a usage that is there, and returns the usage's id; nothing when there is no
/// such usage, or it has a request already.
pub(super) fn request_of_usage(usage: UsageId, request: &NewRequest) -> impl Returns<UsageId> {
    microdollar_usage::table
        .filter(microdollar_usage::id.eq(usage))
        .select(((microdollar_usage::id, microdollar_usage::created_at), values(request)))
        .insert_into(model_experiment_request::table)
        .into_columns(Columns::default())
        .on_conflict(model_experiment_request::usage_id)
        .do_nothing()
        .returning(model_experiment_request::usage_id)
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};
    let request = NewRequest::new(seed::version(7), AllocationSubject::User);

    vec![
        query!(usage_with_request(&Usage::new("user-1"), &request)).rows(1, 0),
        query!(request_of_usage(seed::usage(200_001), &request))
            .by("microdollar_usage_pkey", "id = ?")
            .rows(1, 1),
    ]
}
