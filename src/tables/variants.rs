//! Variants: their rows, and the queries that find, list and change them.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::schema::model_experiment_variant as variant;
use crate::sql::functions::statement_timestamp;
use crate::sql::kept::Kept;
use crate::sql::run::Returns;
use crate::tables::experiments;
use crate::values::{ExperimentId, Label, Timestamp, VariantId, Weight};

/// A variant of an experiment: users are bucketed into it, and it serves its current version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Queryable, Selectable)]
#[diesel(table_name = variant, check_for_backend(Pg))]
#[non_exhaustive]
pub struct Variant {
    /// Identifies the variant. Variants share the buckets in ascending order of it.
    pub id: VariantId,
    /// The experiment that the variant belongs to.
    pub experiment_id: ExperimentId,
    /// The name for operators.
    pub label: Label,
    /// The share of users, relative to the sum of the experiment's weights.
    pub weight: Weight,
    /// The instant of creation.
    pub created_at: Timestamp,
    /// The instant of the last change.
    pub updated_at: Timestamp,
}

fn find_query(id: VariantId) -> impl Returns<Variant> {
    variant::table.find(id).select(Variant::as_select())
}

fn find_experiment_query(id: VariantId) -> impl Returns<ExperimentId> {
    variant::table.find(id).select(variant::experiment_id)
}

fn list_query(experiment: ExperimentId) -> impl Returns<Variant> {
    variant::table
        .filter(variant::experiment_id.eq(experiment))
        .order(variant::id)
        .select(Variant::as_select())
}

fn insert_query(experiment: ExperimentId, label: &Label, weight: Weight) -> impl Returns<Variant> {
    diesel::insert_into(variant::table)
        .values((
            variant::experiment_id.eq(experiment),
            variant::label.eq(label),
            variant::weight.eq(weight),
        ))
        .returning(Variant::as_returning())
}

fn set_weight_query(id: VariantId, weight: Weight) -> impl Returns<Variant> {
    Kept(
        diesel::update(variant::table.find(id))
            .set((variant::weight.eq(weight), variant::updated_at.eq(statement_timestamp())))
            .returning(Variant::as_returning()),
    )
}

fn set_label_query(id: VariantId, label: &Label) -> impl Returns<Variant> {
    Kept(
        diesel::update(variant::table.find(id))
            .set((variant::label.eq(label), variant::updated_at.eq(statement_timestamp())))
            .returning(Variant::as_returning()),
    )
}

fn delete_query(id: VariantId) -> impl Returns<VariantId> {
    diesel::delete(variant::table.find(id)).returning(variant::id)
}

/// The variant `id`, if there is one.
///
/// # Errors
///
/// [`Error::Transient`] or [`Error::Database`].
pub async fn find(conn: &mut AsyncPgConnection, id: VariantId) -> Result<Option<Variant>> {
    find_query(id).first(conn).await
}

/// The variants of `experiment` in ascending order of their ids, which is the order of bucketing.
///
/// # Errors
///
/// [`Error::ExperimentNotFound`].
pub async fn list(conn: &mut AsyncPgConnection, experiment: ExperimentId) -> Result<Vec<Variant>> {
    let variants = list_query(experiment).load(conn).await?;
    if variants.is_empty() {
        experiments::require(conn, experiment).await?;
    }
    Ok(variants)
}

/// The experiment that the variant `id` belongs to.
pub(crate) async fn find_experiment(
    conn: &mut AsyncPgConnection,
    id: VariantId,
) -> Result<ExperimentId> {
    find_experiment_query(id).first(conn).await?.ok_or(Error::VariantNotFound(id))
}

/// Refuses a variant that doesn't exist.
pub(crate) async fn require(conn: &mut AsyncPgConnection, id: VariantId) -> Result<()> {
    find_experiment(conn, id).await.map(drop)
}

/// Inserts a variant of a locked experiment.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    experiment: ExperimentId,
    label: &Label,
    weight: Weight,
) -> Result<Variant> {
    insert_query(experiment, label, weight).one(conn).await
}

/// Changes the weight of a locked experiment's variant, if it is still there.
pub(crate) async fn set_weight(
    conn: &mut AsyncPgConnection,
    id: VariantId,
    weight: Weight,
) -> Result<Option<Variant>> {
    set_weight_query(id, weight).first(conn).await
}

/// Changes the label of a locked experiment's variant, if it is still there.
pub(crate) async fn set_label(
    conn: &mut AsyncPgConnection,
    id: VariantId,
    label: &Label,
) -> Result<Option<Variant>> {
    set_label_query(id, label).first(conn).await
}

/// Deletes a locked experiment's variant and its versions, if it is still there.
pub(crate) async fn delete(
    conn: &mut AsyncPgConnection,
    id: VariantId,
) -> Result<Option<VariantId>> {
    delete_query(id).first(conn).await
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};
    let draft = seed::experiment(960);
    let of_draft = seed::variant(2 * 960);
    let (label, weight) = (Label::new("new").unwrap(), Weight::new(9).unwrap());

    vec![
        query!(find_query(of_draft)).by("model_experiment_variant_pkey", "id = ?").rows(1, 1),
        query!(find_experiment_query(of_draft))
            .by("model_experiment_variant_pkey", "id = ?")
            .rows(1, 1),
        query!(list_query(draft))
            .by("IDX_model_experiment_variant_experiment_id", "experiment_id = ?")
            .rows(2, 2),
        query!(insert_query(draft, &label, weight)).rows(1, 0),
        query!(set_weight_query(of_draft, weight))
            .by("model_experiment_variant_pkey", "id = ?")
            .rows(1, 1),
        query!(set_label_query(of_draft, &label))
            .by("model_experiment_variant_pkey", "id = ?")
            .rows(1, 1),
        query!(delete_query(of_draft)).by("model_experiment_variant_pkey", "id = ?").rows(1, 1),
    ]
}
