//! The status of an experiment: draft, active, paused, completed. Beside it, archived or not.
//!
//! A transition that already holds is a no-op that returns the experiment.

use diesel_async::AsyncPgConnection;

use crate::error::{Constraint, Error, Result};
use crate::experiments::locking::with_experiment;
use crate::experiments::notify::routing_changed;
use crate::experiments::rules::{
    refuse_deletion, require_draft, require_public_model_id_free, require_ready,
};
use crate::tables::experiments::{self, Experiment};
use crate::values::{ExperimentId, Status};

/// The most retries of an activation that lost a race, each against another winner.
const MAX_LOST_RACES: u32 = 5;

/// Makes a draft or paused experiment active. Its variants serve the public model id from now on.
///
/// ```no_run
/// use model_experiments::{AsyncPgConnection, Error, experiments, values::ExperimentId};
///
/// # async fn activate(conn: &mut AsyncPgConnection, id: ExperimentId)
/// # -> model_experiments::Result<()> {
/// match experiments::activate(conn, id).await {
///     Ok(active) => println!("serving {} since {:?}", active.public_model_id, active.started_at),
///     Err(Error::NotReady { reason, .. }) => println!("not yet: {reason}"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// - [`Error::NotReady`] when it is archived, has no variant, or a variant has no current version;
/// - [`Error::PublicModelIdTaken`] when another experiment is active or paused on its public model
///   id;
/// - [`Error::InvalidTransition`] when it is completed;
/// - [`Error::ExperimentNotFound`].
#[tracing::instrument(skip_all, fields(experiment = %id))]
pub async fn activate(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    let mut lost_races = 0;
    loop {
        match try_activate(conn, id).await {
            // Another experiment was activated after the check. The next check sees it.
            Err(Error::Violated { constraint: Constraint::ExperimentRouting })
                if lost_races < MAX_LOST_RACES =>
            {
                lost_races += 1;
            }
            activated => return activated,
        }
    }
}

async fn try_activate(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    with_experiment(conn, id, async |conn, experiment| {
        match experiment.status {
            Status::Active => return Ok(experiment),
            Status::Draft | Status::Paused => {}
            from @ Status::Completed => return Err(invalid(id, from, Status::Active)),
        }
        require_ready(conn, &experiment).await?;
        require_public_model_id_free(conn, &experiment).await?;
        let activated = match experiment.status {
            Status::Draft => experiments::mark_started(conn, id).await?,
            _ => experiments::set_status(conn, id, Status::Active).await?,
        };
        routing_changed(conn, activated).await
    })
    .await
}

/// Pauses an active experiment. Its public model id answers "not found" until it is active again.
///
/// # Errors
///
/// [`Error::InvalidTransition`] when it is a draft or completed; [`Error::ExperimentNotFound`].
#[tracing::instrument(skip_all, fields(experiment = %id))]
pub async fn pause(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    with_experiment(conn, id, async |conn, experiment| match experiment.status {
        Status::Paused => Ok(experiment),
        Status::Active => {
            let paused = experiments::set_status(conn, id, Status::Paused).await?;
            routing_changed(conn, paused).await
        }
        from => Err(invalid(id, from, Status::Paused)),
    })
    .await
}

/// Completes an active or paused experiment. Its public model id is free for another.
///
/// # Errors
///
/// [`Error::InvalidTransition`] when it is a draft; [`Error::ExperimentNotFound`].
#[tracing::instrument(skip_all, fields(experiment = %id))]
pub async fn complete(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    with_experiment(conn, id, async |conn, experiment| match experiment.status {
        Status::Completed => Ok(experiment),
        Status::Active | Status::Paused => {
            let completed = experiments::mark_ended(conn, id).await?;
            routing_changed(conn, completed).await
        }
        from @ Status::Draft => Err(invalid(id, from, Status::Completed)),
    })
    .await
}

/// Deletes a draft with its variants and their versions.
///
/// # Errors
///
/// - [`Error::NotDraft`] when it has left draft;
/// - [`Error::HasRequests`] when requests of it were recorded all the same;
/// - [`Error::ExperimentNotFound`].
#[tracing::instrument(skip_all, fields(experiment = %id))]
pub async fn delete(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<()> {
    with_experiment(conn, id, async |conn, experiment| {
        require_draft(&experiment)?;
        experiments::delete(conn, id).await.map_err(|error| refuse_deletion(error, id))?;
        Ok(())
    })
    .await
}

/// Hides an experiment from lists. Routing does not change.
///
/// # Errors
///
/// [`Error::ActiveNotArchivable`] when it is active; [`Error::ExperimentNotFound`].
#[tracing::instrument(skip_all, fields(experiment = %id))]
pub async fn archive(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    with_experiment(conn, id, async |conn, experiment| {
        match (experiment.is_archived, experiment.status) {
            (true, _) => Ok(experiment),
            (false, Status::Active) => Err(Error::ActiveNotArchivable(id)),
            (false, _) => experiments::set_archived(conn, id, true).await,
        }
    })
    .await
}

/// Shows an archived experiment in lists again.
///
/// # Errors
///
/// [`Error::ExperimentNotFound`].
#[tracing::instrument(skip_all, fields(experiment = %id))]
pub async fn unarchive(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    with_experiment(conn, id, async |conn, experiment| {
        if experiment.is_archived {
            experiments::set_archived(conn, id, false).await
        } else {
            Ok(experiment)
        }
    })
    .await
}

fn invalid(experiment: ExperimentId, from: Status, to: Status) -> Error {
    Error::InvalidTransition { experiment, from, to }
}
