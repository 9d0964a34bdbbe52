//! The structure of an experiment: its details, its variants, their weights and labels.
//!
//! Variants, weights and the public model id change only while it is a draft, so that no user's
//! bucket ever moves.

use diesel_async::AsyncPgConnection;

use crate::database::transaction::transaction;
use crate::error::{Error, Result};
use crate::experiments::locking::{with_experiment, with_experiment_of};
use crate::experiments::rules::{
    refuse_deletion, refuse_label, require_draft, require_not_completed,
};
use crate::sql::run::is_read_only_by_default;
use crate::tables::experiments::{self, Experiment, ExperimentChanges, NewExperiment};
use crate::tables::variants::{self, Variant};
use crate::values::{ExperimentId, Label, VariantId, Weight};

/// Creates an experiment. It begins as a draft.
///
/// # Errors
///
/// [`Error::Invalid`] when the name is empty, or a text contains a NUL character or exceeds 65,536
/// bytes.
#[tracing::instrument(skip_all, fields(public_model_id = %new.public_model_id()))]
pub async fn create(conn: &mut AsyncPgConnection, new: &NewExperiment) -> Result<Experiment> {
    new.check()?;
    match experiments::insert(conn, new).await {
        Err(error) if is_read_only_by_default(conn, &error) => {
            transaction(conn, async |conn| experiments::insert(conn, new).await).await
        }
        created => created,
    }
}

/// Changes an experiment's name or description at any time, and its public model id while it is a
/// draft.
///
/// ```no_run
/// use model_experiments::experiments::{self, ExperimentChanges};
/// # use model_experiments::{AsyncPgConnection, Result, values::ExperimentId};
///
/// # async fn rename(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<()> {
/// let changes = ExperimentChanges::default().name("Foo: rc2 or rc3").description(None);
/// let experiment = experiments::update(conn, id, &changes).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// - [`Error::NotDraft`] when the public model id would change and it has left draft;
/// - [`Error::Invalid`] when the name is empty, or a text contains a NUL character or exceeds
///   65,536 bytes;
/// - [`Error::ExperimentNotFound`].
#[tracing::instrument(skip_all, fields(experiment = %id))]
pub async fn update(
    conn: &mut AsyncPgConnection,
    id: ExperimentId,
    changes: &ExperimentChanges,
) -> Result<Experiment> {
    changes.check()?;
    with_experiment(conn, id, async |conn, experiment| {
        if changes.change_public_model_id(&experiment) {
            require_draft(&experiment)?;
        }
        experiments::update(conn, id, changes).await
    })
    .await
}

/// Adds a variant to a draft.
///
/// # Errors
///
/// [`Error::LabelTaken`], [`Error::NotDraft`], [`Error::ExperimentNotFound`].
#[tracing::instrument(skip_all, fields(%experiment))]
pub async fn add_variant(
    conn: &mut AsyncPgConnection,
    experiment: ExperimentId,
    label: &Label,
    weight: Weight,
) -> Result<Variant> {
    with_experiment(conn, experiment, async |conn, experiment| {
        require_draft(&experiment)?;
        variants::insert(conn, experiment.id, label, weight)
            .await
            .map_err(|error| refuse_label(error, experiment.id, label))
    })
    .await
}

/// Removes a variant of a draft, with its versions.
///
/// # Errors
///
/// [`Error::NotDraft`], [`Error::HasRequests`], [`Error::VariantNotFound`].
#[tracing::instrument(skip_all, fields(%variant))]
pub async fn remove_variant(conn: &mut AsyncPgConnection, variant: VariantId) -> Result<()> {
    with_experiment_of(conn, variant, async |conn, experiment| {
        require_draft(&experiment)?;
        variants::delete(conn, variant)
            .await
            .map_err(|error| refuse_deletion(error, experiment.id))?
            .ok_or(Error::VariantNotFound(variant))?;
        Ok(())
    })
    .await
}

/// Changes the weight of a draft's variant.
///
/// # Errors
///
/// [`Error::NotDraft`], [`Error::VariantNotFound`].
#[tracing::instrument(skip_all, fields(%variant))]
pub async fn set_weight(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    weight: Weight,
) -> Result<Variant> {
    with_experiment_of(conn, variant, async |conn, experiment| {
        require_draft(&experiment)?;
        variants::set_weight(conn, variant, weight).await?.ok_or(Error::VariantNotFound(variant))
    })
    .await
}

/// Changes the label of a variant until its experiment is completed. No bucket moves.
///
/// # Errors
///
/// [`Error::LabelTaken`], [`Error::Completed`], [`Error::VariantNotFound`].
#[tracing::instrument(skip_all, fields(%variant))]
pub async fn set_label(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    label: &Label,
) -> Result<Variant> {
    with_experiment_of(conn, variant, async |conn, experiment| {
        require_not_completed(&experiment)?;
        variants::set_label(conn, variant, label)
            .await
            .map_err(|error| refuse_label(error, experiment.id, label))?
            .ok_or(Error::VariantNotFound(variant))
    })
    .await
}
