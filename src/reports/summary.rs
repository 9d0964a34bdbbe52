//! The summary: what each version of an experiment served.

use diesel::dsl::{auto_type, count, count_star};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use serde::Serialize;
use std::collections::HashMap;
use std::ops::Range;

use crate::error::Result;
use crate::schema::{
    microdollar_usage as usage, model_experiment_request as request,
    model_experiment_variant as variant, model_experiment_variant_version as version,
};
use crate::sql::functions::{int8, sum_of_bigint};
use crate::sql::run::Returns;
use crate::tables::experiments;
use crate::values::{AllocationSubject, ExperimentId, Label, Timestamp, VariantId, VersionId};

/// What one version served in a window of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VersionSummary {
    /// The version.
    pub version: VersionId,
    /// The version's variant.
    pub variant: VariantId,
    /// The variant's label.
    pub label: Label,
    /// What its requests were bucketed by; `None` when all are summed up together.
    pub subject: Option<AllocationSubject>,
    /// How many users it served.
    pub distinct_users: i64,
    /// What it served.
    pub totals: Totals,
}

/// Sums over requests and their usages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Queryable, Selectable)]
#[diesel(table_name = usage, check_for_backend(Pg))]
#[non_exhaustive]
pub struct Totals {
    /// Requests.
    #[diesel(select_expression = count_star())]
    pub requests: i64,
    /// Requests that the upstream answered with an error.
    #[diesel(select_expression = count(usage::id).aggregate_filter(usage::has_error))]
    pub errors: i64,
    /// Prompt tokens.
    #[diesel(select_expression = int8(sum_of_bigint(usage::input_tokens)).assume_not_null())]
    pub input_tokens: i64,
    /// Generated tokens.
    #[diesel(select_expression = int8(sum_of_bigint(usage::output_tokens)).assume_not_null())]
    pub output_tokens: i64,
    /// Prompt tokens written to the provider's cache.
    #[diesel(select_expression = int8(sum_of_bigint(usage::cache_write_tokens)).assume_not_null())]
    pub cache_write_tokens: i64,
    /// Prompt tokens read from the provider's cache.
    #[diesel(select_expression = int8(sum_of_bigint(usage::cache_hit_tokens)).assume_not_null())]
    pub cache_hit_tokens: i64,
    /// Cost, in microdollars.
    #[diesel(select_expression = int8(sum_of_bigint(usage::cost)).assume_not_null())]
    pub cost: i64,
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = variant, check_for_backend(Pg))]
struct Group {
    id: VariantId,
    label: Label,
    #[diesel(select_expression = request::variant_version_id)]
    version: VersionId,
}

diesel::allow_columns_to_appear_in_same_group_by_clause!(
    variant::id,
    variant::label,
    request::variant_version_id,
    request::allocation_subject,
);

/// The requests of `experiment` in the window, with their usages.
#[auto_type]
fn served(experiment: ExperimentId, from: Timestamp, to: Timestamp) -> _ {
    request::table
        .inner_join(version::table.inner_join(variant::table))
        .inner_join(usage::table)
        .filter(variant::experiment_id.eq(experiment))
        .filter(request::created_at.ge(from))
        .filter(request::created_at.lt(to))
}

/// The plain sums. Distinct counts are a query of their own: on a distributed database they would
/// make it ship every row.
fn sum_query(experiment: ExperimentId, window: &Range<Timestamp>) -> impl Returns<(Group, Totals)> {
    served(experiment, window.start, window.end)
        .group_by((variant::id, variant::label, request::variant_version_id))
        .order((variant::id, request::variant_version_id))
        .select((Group::as_select(), Totals::as_select()))
}

fn sum_by_subject_query(
    experiment: ExperimentId,
    window: &Range<Timestamp>,
) -> impl Returns<(Group, AllocationSubject, Totals)> {
    served(experiment, window.start, window.end)
        .group_by((
            variant::id,
            variant::label,
            request::variant_version_id,
            request::allocation_subject,
        ))
        .order((variant::id, request::variant_version_id, request::allocation_subject))
        .select((Group::as_select(), request::allocation_subject, Totals::as_select()))
}

fn count_users_query(
    experiment: ExperimentId,
    window: &Range<Timestamp>,
) -> impl Returns<(VersionId, i64)> {
    served(experiment, window.start, window.end)
        .group_by(request::variant_version_id)
        .select((request::variant_version_id, count(usage::kilo_user_id).aggregate_distinct()))
}

fn count_users_by_subject_query(
    experiment: ExperimentId,
    window: &Range<Timestamp>,
) -> impl Returns<((VersionId, AllocationSubject), i64)> {
    served(experiment, window.start, window.end)
        .group_by((request::variant_version_id, request::allocation_subject))
        .select((
            (request::variant_version_id, request::allocation_subject),
            count(usage::kilo_user_id).aggregate_distinct(),
        ))
}

/// What each version of `experiment` served in the half-open `window`, in the order of the
/// variants' and versions' ids. Versions that served nothing are left out.
///
/// Users are counted by a second query. In a window that is still being written to, they may
/// include users of requests that came in between.
///
/// # Errors
///
/// - [`Error::ExperimentNotFound`](crate::Error::ExperimentNotFound);
/// - [`Error::Database`](crate::Error::Database) when a sum exceeds 64 bits.
#[tracing::instrument(skip_all, fields(%experiment))]
pub async fn by_version(
    conn: &mut AsyncPgConnection,
    experiment: ExperimentId,
    window: &Range<Timestamp>,
) -> Result<Vec<VersionSummary>> {
    let sums = sum_query(experiment, window).load(conn).await?;
    if sums.is_empty() {
        experiments::require(conn, experiment).await?;
    }
    let users: HashMap<_, _> =
        count_users_query(experiment, window).load(conn).await?.into_iter().collect();
    Ok(sums
        .into_iter()
        .map(|(group, totals)| {
            let users = users.get(&group.version).copied().unwrap_or_default();
            summary(group, None, users, totals)
        })
        .collect())
}

/// The same for each allocation subject. A user may count under several.
///
/// # Errors
///
/// Those of [`by_version`].
#[tracing::instrument(skip_all, fields(%experiment))]
pub async fn by_version_and_subject(
    conn: &mut AsyncPgConnection,
    experiment: ExperimentId,
    window: &Range<Timestamp>,
) -> Result<Vec<VersionSummary>> {
    let sums = sum_by_subject_query(experiment, window).load(conn).await?;
    if sums.is_empty() {
        experiments::require(conn, experiment).await?;
    }
    let users: HashMap<_, _> =
        count_users_by_subject_query(experiment, window).load(conn).await?.into_iter().collect();
    Ok(sums
        .into_iter()
        .map(|(group, subject, totals)| {
            let users = users.get(&(group.version, subject)).copied().unwrap_or_default();
            summary(group, Some(subject), users, totals)
        })
        .collect())
}

fn summary(
    group: Group,
    subject: Option<AllocationSubject>,
    distinct_users: i64,
    totals: Totals,
) -> VersionSummary {
    let Group { id: variant, label, version } = group;
    VersionSummary { version, variant, label, subject, distinct_users, totals }
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{Query, query, seed};
    let (experiment, window) = (seed::experiment(7), seed::window());
    let of_versions = |query: Query| {
        query
            .by("IDX_model_experiment_variant_experiment_id", "experiment_id = ?")
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "variant_id = model_experiment_variant.id",
            )
            .by(
                "IDX_model_experiment_request_variant_version_created_at",
                "(variant_version_id = model_experiment_variant_version.id) \
                 AND (created_at >= ?) AND (created_at < ?)",
            )
            .by("microdollar_usage_pkey", "id = model_experiment_request.usage_id")
            .rows(80, 373)
    };

    vec![
        of_versions(query!(sum_query(experiment, &window))),
        of_versions(query!(sum_by_subject_query(experiment, &window))),
        of_versions(query!(count_users_query(experiment, &window))),
        of_versions(query!(count_users_by_subject_query(experiment, &window))),
    ]
}
