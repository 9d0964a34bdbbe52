//! Statements that record one usage or request.

use diesel::dsl::AsExprOf;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable, Text, Uuid as SqlUuid};

use crate::recording::statements::common_tables::recorded_usage;
use crate::schema::{microdollar_usage as usage, model_experiment_request as request};
use crate::sql::run::Returns;
use crate::sql::with::{common_table, with};
use crate::tables::requests::NewRequest;
use crate::tables::usages::Usage;
use crate::values::{AllocationSubject, RequestBodyRef, SystemPromptRef, UsageId, VersionId};

/// Columns of a request: those copied from its usage, then its own.
pub(super) type Columns = (
    (request::usage_id, request::created_at),
    (
        request::variant_version_id,
        request::allocation_subject,
        request::client_request_id,
        request::system_prompt_sha256,
        request::request_body_sha256,
        request::was_truncated,
    ),
);

/// Values of a request's own columns.
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

/// Inserts a usage and its request; returns the usage's id, or no row if the usage exists already.
///
/// The request takes its id and instant from the inserted usage.
pub(in crate::recording) fn insert_usage_with_request_query(
    usage: &Usage,
    request: &NewRequest,
) -> impl Returns<UsageId> {
    with(
        common_table::<recorded_usage::table, _>(
            diesel::insert_into(usage::table)
                .values(usage)
                .on_conflict(usage::id)
                .do_nothing()
                .returning((usage::id, usage::created_at)),
        ),
        recorded_usage::table
            .select(((recorded_usage::id, recorded_usage::created_at), values(request)))
            .insert_into(request::table)
            .into_columns(Columns::default())
            .returning(request::usage_id),
    )
}

/// Inserts the request of a stored usage; returns the usage's id.
///
/// Returns no row if there is no such usage, or it has a request already.
pub(in crate::recording) fn insert_request_query(
    id: UsageId,
    request: &NewRequest,
) -> impl Returns<UsageId> {
    usage::table
        .filter(usage::id.eq(id))
        .select(((usage::id, usage::created_at), values(request)))
        .insert_into(request::table)
        .into_columns(Columns::default())
        .on_conflict(request::usage_id)
        .do_nothing()
        .returning(request::usage_id)
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};
    let request = NewRequest::new(seed::version(7), AllocationSubject::User);

    vec![
        query!(insert_usage_with_request_query(&Usage::new("user-1"), &request)).rows(1, 0),
        query!(insert_request_query(seed::usage(200_001), &request))
            .by("microdollar_usage_pkey", "id = ?")
            .rows(1, 1),
    ]
}
