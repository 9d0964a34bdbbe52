//! The statements that record one.

use diesel::dsl::AsExprOf;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable, Text, Uuid as SqlUuid};

use super::with::{RecordedUsage, With, recorded_usage};
use crate::schema::{microdollar_usage, model_experiment_request};
use crate::tables::Returns;
use crate::tables::requests::NewRequest;
use crate::tables::usages::Usage;
use crate::values::{AllocationSubject, RequestBodyRef, SystemPromptRef, UsageId, VersionId};

/// The columns of a request: those that are its usage's, and those of its own.
pub(super) type Columns = (
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
    With(
        RecordedUsage(
            diesel::insert_into(microdollar_usage::table)
                .values(usage)
                .on_conflict(microdollar_usage::id)
                .do_nothing()
                .returning((microdollar_usage::id, microdollar_usage::created_at)),
        ),
        recorded_usage::table
            .select(((recorded_usage::id, recorded_usage::created_at), values(request)))
            .insert_into(model_experiment_request::table)
            .into_columns(Columns::default())
            .returning(model_experiment_request::usage_id),
    )
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
