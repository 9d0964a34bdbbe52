//! The overview: an experiment, its variants, and what each serves.

use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::schema::{
    model_experiment as experiment, model_experiment_variant as variant,
    model_experiment_variant_version as version,
};
use crate::sql::run::Returns;
use crate::tables::experiments::Experiment;
use crate::tables::variants::Variant;
use crate::tables::versions::{Version, current};
use crate::values::ExperimentId;

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

fn of_experiment_query(
    id: ExperimentId,
) -> impl Returns<(Experiment, Option<Variant>, Option<Version>)> {
    experiment::table
        .left_join(variant::table)
        .left_join(version::table.on(version::id.nullable().eq(current::id_of_each())))
        .filter(experiment::id.eq(id))
        .order(variant::id)
        .select((
            Experiment::as_select(),
            Option::<Variant>::as_select(),
            Option::<Version>::as_select(),
        ))
}

/// The experiment `id` as it is now, with the versions that it serves.
///
/// # Errors
///
/// [`Error::ExperimentNotFound`].
#[tracing::instrument(skip_all, fields(experiment = %id))]
pub async fn of_experiment(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Overview> {
    let rows = of_experiment_query(id).load(conn).await?;
    let experiment = rows.first().map(|(experiment, ..)| experiment.clone());
    Ok(Overview {
        experiment: experiment.ok_or(Error::ExperimentNotFound(id))?,
        variants: rows
            .into_iter()
            .filter_map(|(_, variant, current)| {
                Some(VariantOverview { variant: variant?, current })
            })
            .collect(),
    })
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};
    vec![
        query!(of_experiment_query(seed::experiment(4)))
            .by("IDX_model_experiment_variant_experiment_id", "experiment_id = ?")
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "variant_id = model_experiment_variant.id",
            )
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "(variant_id = model_experiment_variant.id) AND (effective_at = ?)",
            )
            .by("model_experiment_pkey", "id = ?")
            .by("model_experiment_variant_version_pkey", "id = (SubPlan 2)")
            .rows(2, 12),
        query!(of_experiment_query(seed::experiment(1001)), "with a long history"),
    ]
}
