//! The rules that an operation checks before it writes.
//!
//! The first three have guards of the same name in the database, which hold for every other writer:
//! `model_experiment_require_draft`, `model_experiment_require_not_completed` and
//! `model_experiment_require_ready`.

use diesel_async::AsyncPgConnection;

use crate::error::{Constraint, Error, NotReady, Result};
use crate::tables::experiments::{self, Experiment};
use crate::tables::versions;
use crate::values::{ExperimentId, Label, Status, Timestamp, VariantId};

/// Requires that the experiment is a draft, whose structure may change.
pub(super) fn require_draft(experiment: &Experiment) -> Result<()> {
    match experiment.status {
        Status::Draft => Ok(()),
        status => Err(Error::NotDraft { experiment: experiment.id, status }),
    }
}

/// Requires that the experiment isn't completed, so that it takes versions and labels.
pub(super) fn require_not_completed(experiment: &Experiment) -> Result<()> {
    match experiment.status {
        Status::Completed => Err(Error::Completed(experiment.id)),
        Status::Draft | Status::Active | Status::Paused => Ok(()),
    }
}

/// Requires that a locked experiment has all that an active one needs.
pub(super) async fn require_ready(
    conn: &mut AsyncPgConnection,
    experiment: &Experiment,
) -> Result<()> {
    let not_ready = |reason| Err(Error::NotReady { experiment: experiment.id, reason });
    if experiment.is_archived {
        return not_ready(NotReady::Archived);
    }
    let variants = versions::list_current_ids(conn, experiment.id).await?;
    if variants.is_empty() {
        return not_ready(NotReady::NoVariant);
    }
    match variants.into_iter().find(|(.., current)| current.is_none()) {
        Some((variant, label, _)) => not_ready(NotReady::NoCurrentVersion { variant, label }),
        None => Ok(()),
    }
}

/// Requires that no other experiment is active or paused on the public model id of a locked one.
pub(super) async fn require_public_model_id_free(
    conn: &mut AsyncPgConnection,
    experiment: &Experiment,
) -> Result<()> {
    match experiments::find_routed(conn, &experiment.public_model_id).await? {
        Some(routed_by) if routed_by != experiment.id => Err(Error::PublicModelIdTaken {
            public_model_id: experiment.public_model_id.clone(),
            routed_by,
        }),
        _ => Ok(()),
    }
}

/// Requires that a version becomes effective now or later.
pub(super) fn require_not_backdated(
    variant: VariantId,
    effective_at: Timestamp,
    now: Timestamp,
) -> Result<()> {
    if effective_at < now {
        return Err(Error::Backdated { variant, effective_at, now });
    }
    Ok(())
}

/// Requires that no version of a locked experiment's variant becomes effective at exactly
/// `effective_at`. The ids of two versions don't tell which was published last.
pub(super) async fn require_instant_free(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    effective_at: Timestamp,
) -> Result<()> {
    if versions::exists_at(conn, variant, effective_at).await? {
        return Err(Error::InstantTaken { variant, effective_at });
    }
    Ok(())
}

/// The error of a deletion: a version that has served requests stays.
pub(super) fn refuse_deletion(error: Error, experiment: ExperimentId) -> Error {
    match error {
        Error::Violated { constraint: Constraint::RequestVersion } => {
            Error::HasRequests(experiment)
        }
        error => error,
    }
}

/// The error of a label: it is unique within the experiment.
pub(super) fn refuse_label(error: Error, experiment: ExperimentId, label: &Label) -> Error {
    match error {
        Error::Violated { constraint: Constraint::VariantLabel } => {
            Error::LabelTaken { experiment, label: label.clone() }
        }
        error => error,
    }
}
