//! Feedback: which version served the requests that clients rate.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use serde::Serialize;

use crate::error::Result;
use crate::schema::{
    model_experiment_request as request, model_experiment_variant as variant,
    model_experiment_variant_version as version,
};
use crate::sql::run::Returns;
use crate::values::{ExperimentId, Label, Timestamp, UsageId, VariantId, VersionId, storable};

/// What served a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Queryable, Selectable)]
#[diesel(table_name = request, check_for_backend(Pg))]
#[non_exhaustive]
pub struct ServedBy {
    /// The id that the client gave the request.
    #[diesel(select_expression = request::client_request_id.assume_not_null())]
    pub client_request_id: String,
    /// The request's usage.
    pub usage_id: UsageId,
    /// The instant at which the request was served.
    pub created_at: Timestamp,
    /// The version that served it.
    pub variant_version_id: VersionId,
    /// The version's variant.
    #[diesel(select_expression = variant::id)]
    pub variant_id: VariantId,
    /// The variant's label.
    #[diesel(select_expression = variant::label)]
    pub label: Label,
    /// The variant's experiment.
    #[diesel(select_expression = variant::experiment_id)]
    pub experiment_id: ExperimentId,
}

fn served_by_query(ids: &[&str]) -> impl Returns<ServedBy> {
    request::table
        .inner_join(version::table.inner_join(variant::table))
        .filter(request::client_request_id.eq_any(ids))
        .order((request::client_request_id, request::created_at, request::usage_id))
        .select(ServedBy::as_select())
}

/// What served the requests with these client request ids.
///
/// Sorted by client request id, then by time, as a client may repeat an id. Ids that no request has
/// are left out.
///
/// # Errors
///
/// [`Error::Invalid`](crate::Error::Invalid) when an id contains a NUL character or exceeds 65,536
/// bytes.
#[tracing::instrument(skip_all, fields(requests = client_request_ids.len()))]
pub async fn served_by(
    conn: &mut AsyncPgConnection,
    client_request_ids: &[&str],
) -> Result<Vec<ServedBy>> {
    for id in client_request_ids {
        storable("client_request_id", id)?;
    }
    served_by_query(client_request_ids).load(conn).await
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::query;
    let ids = ["client-600", "client-700", "client-0"];

    vec![
        query!(served_by_query(&ids))
            .by("IDX_model_experiment_request_client_request_id", "client_request_id = ANY (?)")
            .by("model_experiment_variant_pkey", "id = model_experiment_variant_version.variant_id")
            .by(
                "model_experiment_variant_version_pkey",
                "id = model_experiment_request.variant_version_id",
            )
            .rows(5, 20),
    ]
}
