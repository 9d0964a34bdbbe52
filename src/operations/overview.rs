//! An experiment as a whole: its variants, and what each serves.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use serde::Serialize;

use crate::error::Result;
use crate::schema::{model_experiment, model_experiment_variant, model_experiment_variant_version};
use crate::tables::Returns;
use crate::tables::experiments::Experiment;
use crate::tables::variants::Variant;
use crate::tables::versions::{Version, current_id_at};
use crate::values::{ExperimentId, stored};

/// An experiment with its variants and their current versions. It holds no key.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Overview {
    /// The experiment.
    pub experiment: Experiment,
    /// Its variants, in the order of their ids.
    pub variants: Vec<VariantOverview>,
}

/// A variant with its current version.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct VariantOverview {
    /// The variant.
    pub variant: Variant,
    /// The version that it serves; `None` before the first is effective.
    pub current: Option<Version>,
}

fn experiment_with_current(
    id: ExperimentId,
    at: DateTime<Utc>,
) -> impl Returns<(Experiment, Option<Variant>, Option<Version>)> {
    model_experiment::table
        .left_join(model_experiment_variant::table)
        .left_join(
            model_experiment_variant_version::table
                .on(model_experiment_variant_version::id.nullable().eq(current_id_at(at))),
        )
        .filter(model_experiment::id.eq(id))
        .order(model_experiment_variant::id)
        .select((
            Experiment::as_select(),
            Option::<Variant>::as_select(),
            Option::<Version>::as_select(),
        ))
}

/// The experiment `id` as it is now, with the versions that are current at `at`, if there is such an
/// experiment.
///
/// # Errors
///
/// [`Error::Invalid`](crate::Error::Invalid) when PostgreSQL has no such instant.
pub async fn find(
    conn: &mut AsyncPgConnection,
    id: ExperimentId,
    at: DateTime<Utc>,
) -> Result<Option<Overview>> {
    let rows = experiment_with_current(id, stored(at)?).load(conn).await?;
    let experiment = rows.first().map(|(experiment, ..)| experiment.clone());
    Ok(experiment.map(|experiment| Overview {
        experiment,
        variants: rows
            .into_iter()
            .filter_map(|(_, variant, current)| {
                Some(VariantOverview { variant: variant?, current })
            })
            .collect(),
    }))
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};
    let at = seed::later();

    vec![
        query!(experiment_with_current(seed::experiment(4), at))
            .by("IDX_model_experiment_variant_experiment_id", "experiment_id = ?")
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "(variant_id = model_experiment_variant.id) AND (effective_at <= ?)",
            )
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "(variant_id = model_experiment_variant.id) AND (effective_at = ?)",
            )
            .by("model_experiment_pkey", "id = ?")
            .by("model_experiment_variant_version_pkey", "id = (SubPlan 2)")
            .rows(2, 12),
        query!(experiment_with_current(seed::experiment(1001), at), "with a long history"),
    ]
}
