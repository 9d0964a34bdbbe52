//! Statements that record or list many at once, with one array parameter for each column.

use diesel::dsl::{SqlTypeOf, select};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{Query, QueryFragment, QueryId};

use crate::recording::statements::common_tables::{new_request, recorded_usage};
use crate::recording::statements::one::Columns;
use crate::schema::{microdollar_usage as usage, model_experiment_request as request};
use crate::sql::functions::unnest;
use crate::sql::run::Returns;
use crate::sql::with::{common_table, with};
use crate::tables::requests::{NewRequest, Request};
use crate::tables::usages::Usage;
use crate::values::{Timestamp, UsageId};

/// The array of one column's values.
fn array<R: Copy, T>(rows: &[R], column: impl Fn(R) -> T) -> Vec<T> {
    rows.iter().copied().map(column).collect()
}

/// Inserts usages; returns the ids and instants of those that didn't exist yet.
pub(in crate::recording) fn insert_usages_query(
    usages: &[&Usage],
) -> impl Returns<(UsageId, Timestamp)> {
    select((
        unnest(array(usages, |usage| usage.id)),
        unnest(array(usages, |usage| usage.kilo_user_id.as_str())),
        unnest(array(usages, |usage| usage.cost)),
        unnest(array(usages, |usage| usage.input_tokens)),
        unnest(array(usages, |usage| usage.output_tokens)),
        unnest(array(usages, |usage| usage.cache_write_tokens)),
        unnest(array(usages, |usage| usage.cache_hit_tokens)),
        unnest(array(usages, |usage| usage.created_at)),
        unnest(array(usages, |usage| usage.provider.as_deref())),
        unnest(array(usages, |usage| usage.model.as_deref())),
        unnest(array(usages, |usage| usage.requested_model.as_deref())),
        unnest(array(usages, |usage| usage.cache_discount)),
        unnest(array(usages, |usage| usage.has_error)),
        unnest(array(usages, |usage| usage.abuse_classification)),
        unnest(array(usages, |usage| usage.organization_id)),
        unnest(array(usages, |usage| usage.inference_provider.as_deref())),
        unnest(array(usages, |usage| usage.project_id.as_deref())),
    ))
    .insert_into(usage::table)
    .into_columns((
        usage::id,
        usage::kilo_user_id,
        usage::cost,
        usage::input_tokens,
        usage::output_tokens,
        usage::cache_write_tokens,
        usage::cache_hit_tokens,
        usage::created_at,
        usage::provider,
        usage::model,
        usage::requested_model,
        usage::cache_discount,
        usage::has_error,
        usage::abuse_classification,
        usage::organization_id,
        usage::inference_provider,
        usage::project_id,
    ))
    .on_conflict(usage::id)
    .do_nothing()
    .returning((usage::id, usage::created_at))
}

/// Rows of the common table `new_request`.
fn new_requests_query(
    requests: &[(UsageId, &NewRequest)],
) -> impl Query<SqlType = SqlTypeOf<<new_request::table as Table>::AllColumns>>
+ QueryFragment<Pg>
+ QueryId
+ Send {
    select((
        unnest(array(requests, |(usage, _)| usage)),
        unnest(array(requests, |(_, request)| request.variant_version_id)),
        unnest(array(requests, |(_, request)| request.allocation_subject)),
        unnest(array(requests, |(_, request)| request.client_request_id.as_deref())),
        unnest(array(requests, |(_, request)| request.system_prompt_sha256)),
        unnest(array(requests, |(_, request)| request.request_body_sha256)),
        unnest(array(requests, |(_, request)| request.was_truncated)),
    ))
}

/// A request's own columns in `new_request`.
type Values = (
    new_request::variant_version_id,
    new_request::allocation_subject,
    new_request::client_request_id,
    new_request::system_prompt_sha256,
    new_request::request_body_sha256,
    new_request::was_truncated,
);

/// Inserts usages with their requests; returns the ids of those that didn't exist yet.
///
/// Requests take their ids and instants from the inserted usages.
pub(in crate::recording) fn insert_usages_with_requests_query(
    usages: &[&Usage],
    requests: &[(UsageId, &NewRequest)],
) -> impl Returns<UsageId> {
    with(
        (
            common_table::<recorded_usage::table, _>(insert_usages_query(usages)),
            common_table::<new_request::table, _>(new_requests_query(requests)),
        ),
        new_request::table
            .inner_join(recorded_usage::table)
            .select(((recorded_usage::id, recorded_usage::created_at), Values::default()))
            .insert_into(request::table)
            .into_columns(Columns::default())
            .returning(request::usage_id),
    )
}

/// Inserts the requests of stored usages; returns the usages' ids.
///
/// Returns no row for a usage that doesn't exist, or has a request already.
pub(in crate::recording) fn insert_requests_query(
    requests: &[(UsageId, &NewRequest)],
) -> impl Returns<UsageId> {
    with(
        common_table::<new_request::table, _>(new_requests_query(requests)),
        new_request::table
            .inner_join(usage::table)
            // One order for all transactions, so that concurrent insertions can't deadlock.
            .order(new_request::usage_id)
            .select(((usage::id, usage::created_at), Values::default()))
            .insert_into(request::table)
            .into_columns(Columns::default())
            .on_conflict(request::usage_id)
            .do_nothing()
            .returning(request::usage_id),
    )
}

/// Stored usages with their requests, if they have one.
pub(in crate::recording) fn list_recorded_query(
    ids: Vec<UsageId>,
) -> impl Returns<(Usage, Option<Request>)> {
    usage::table
        .left_join(request::table)
        .filter(usage::id.eq_any(ids))
        .select((Usage::as_select(), Option::<Request>::as_select()))
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};
    use crate::values::AllocationSubject;
    let (usage, request) =
        (Usage::new("user-1"), NewRequest::new(seed::version(7), AllocationSubject::User));

    vec![
        query!(insert_usages_query(&[&usage])).rows(1, 0),
        query!(insert_usages_with_requests_query(&[&usage], &[(usage.id, &request)])).rows(1, 0),
        query!(insert_requests_query(&[(seed::usage(200_001), &request)]))
            .by("microdollar_usage_pkey", "id = (unnest(?))")
            .rows(1, 1),
        query!(list_recorded_query(vec![seed::usage(7), seed::usage(8)]))
            .by("microdollar_usage_pkey", "id = ANY (?)")
            .by("model_experiment_request_pkey", "usage_id = microdollar_usage.id")
            .rows(2, 5),
    ]
}
