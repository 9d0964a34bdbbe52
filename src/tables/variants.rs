//! Variants: the stable slots of an experiment that users are bucketed into.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use serde::Serialize;

use super::{Cached, Returns, statement_timestamp};
use crate::error::Result;
use crate::schema::model_experiment_variant;
use crate::values::{ExperimentId, Label, VariantId, Weight};

/// A stable slot of an experiment that users are bucketed into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Queryable, Selectable)]
#[diesel(table_name = model_experiment_variant, check_for_backend(Pg))]
#[non_exhaustive]
pub struct Variant {
    /// Identifies the variant; variants share the weight line in ascending order of it.
    pub id: VariantId,
    /// The experiment that the variant belongs to.
    pub experiment_id: ExperimentId,
    /// What operators call the variant.
    pub label: Label,
    /// The variant's share of users, relative to the sum of the experiment's weights.
    pub weight: Weight,
    /// When the variant was inserted.
    pub created_at: DateTime<Utc>,
    /// When the variant last changed.
    pub updated_at: DateTime<Utc>,
}

fn by_id(id: VariantId) -> impl Returns<Variant> {
    model_experiment_variant::table.find(id).select(Variant::as_select())
}

fn by_experiment(experiment: ExperimentId) -> impl Returns<Variant> {
    model_experiment_variant::table
        .filter(model_experiment_variant::experiment_id.eq(experiment))
        .order(model_experiment_variant::id)
        .select(Variant::as_select())
}

fn insertion(experiment: ExperimentId, label: &Label, weight: Weight) -> impl Returns<Variant> {
    diesel::insert_into(model_experiment_variant::table)
        .values((
            model_experiment_variant::experiment_id.eq(experiment),
            model_experiment_variant::label.eq(label),
            model_experiment_variant::weight.eq(weight),
        ))
        .returning(Variant::as_returning())
}

fn weighted(id: VariantId, weight: Weight) -> impl Returns<Variant> {
    Cached(
        diesel::update(model_experiment_variant::table.find(id))
            .set((
                model_experiment_variant::weight.eq(weight),
                model_experiment_variant::updated_at.eq(statement_timestamp()),
            ))
            .returning(Variant::as_returning()),
    )
}

fn labelled(id: VariantId, label: &Label) -> impl Returns<Variant> {
    Cached(
        diesel::update(model_experiment_variant::table.find(id))
            .set((
                model_experiment_variant::label.eq(label),
                model_experiment_variant::updated_at.eq(statement_timestamp()),
            ))
            .returning(Variant::as_returning()),
    )
}

fn deletion(id: VariantId) -> impl Returns<VariantId> {
    diesel::delete(model_experiment_variant::table.find(id)).returning(model_experiment_variant::id)
}

/// The variant `id`, if there is one.
///
/// # Errors
///
/// Only what the database says.
pub async fn find(conn: &mut AsyncPgConnection, id: VariantId) -> Result<Option<Variant>> {
    by_id(id).first(conn).await
}

/// The variants of `experiment` in ascending order of their ids, as bucketing walks them.
///
/// # Errors
///
/// Only what the database says.
pub async fn list(conn: &mut AsyncPgConnection, experiment: ExperimentId) -> Result<Vec<Variant>> {
    by_experiment(experiment).load(conn).await
}

/// Inserts a variant of a locked experiment.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    experiment: ExperimentId,
    label: &Label,
    weight: Weight,
) -> Result<Variant> {
    insertion(experiment, label, weight).one(conn).await
}

/// Changes the weight of a locked experiment's variant, if it is still there.
pub(crate) async fn set_weight(
    conn: &mut AsyncPgConnection,
    id: VariantId,
    weight: Weight,
) -> Result<Option<Variant>> {
    weighted(id, weight).first(conn).await
}

/// Changes the label of a locked experiment's variant, if it is still there.
pub(crate) async fn set_label(
    conn: &mut AsyncPgConnection,
    id: VariantId,
    label: &Label,
) -> Result<Option<Variant>> {
    labelled(id, label).first(conn).await
}

/// Deletes a locked experiment's variant and its versions, if it is still there.
pub(crate) async fn delete(
    conn: &mut AsyncPgConnection,
    id: VariantId,
) -> Result<Option<VariantId>> {
    deletion(id).first(conn).await
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};
    let draft = seed::experiment(960);
    let of_draft = seed::variant(2 * 960);
    let (label, weight) = (Label::new("new").unwrap(), Weight::new(9).unwrap());

    vec![
        query!(by_id(of_draft)).by("model_experiment_variant_pkey", "id = ?").rows(1, 1),
        query!(by_experiment(draft))
            .by("IDX_model_experiment_variant_experiment_id", "experiment_id = ?")
            .rows(2, 2),
        query!(insertion(draft, &label, weight)).rows(1, 0),
        query!(weighted(of_draft, weight)).by("model_experiment_variant_pkey", "id = ?").rows(1, 1),
        query!(labelled(of_draft, &label)).by("model_experiment_variant_pkey", "id = ?").rows(1, 1),
        query!(deletion(of_draft)).by("model_experiment_variant_pkey", "id = ?").rows(1, 1),
    ]
}
