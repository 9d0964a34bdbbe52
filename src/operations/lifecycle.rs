//! An experiment's life: draft, active, paused, completed; and, beside it, archived or not.
//!
//! A transition that already holds is a no-op that returns the experiment. Each locks the
//! experiment first, so that callers who race see each other's outcome.

use diesel_async::AsyncPgConnection;

use super::notify::routing_changed;
use super::transaction::transaction;
use crate::error::{Constraint, Error, NotReady, Result};
use crate::tables::experiments::{self, Experiment};
use crate::tables::{clock, versions};
use crate::values::{ExperimentId, Status};

/// How often an activation that lost a race is tried again, each time against another winner.
const MAX_LOST_RACES: u32 = 5;

/// Makes a draft or paused experiment active: from now on its variants serve the public model id.
///
/// # Errors
///
/// - [`Error::NotReady`] when it is archived, has no variant, or a variant has no version that is effective;
/// - [`Error::PublicModelIdTaken`] when another experiment is active or paused on its public model id;
/// - [`Error::InvalidTransition`] when it is completed;
/// - [`Error::ExperimentNotFound`].
pub async fn activate(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    let mut lost_races = 0;
    loop {
        match try_activate(conn, id).await {
            // Another experiment was activated after the check. Now the check sees it, or it is over again.
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
    transaction(conn, async |conn| {
        let experiment = experiments::lock(conn, id).await?;
        match experiment.status {
            Status::Active => return Ok(experiment),
            Status::Draft | Status::Paused => {}
            from @ Status::Completed => return Err(invalid(id, from, Status::Active)),
        }
        refuse_unready(conn, &experiment).await?;
        refuse_taken(conn, &experiment).await?;
        let activated = match experiment.status {
            Status::Draft => experiments::start(conn, id).await?,
            _ => experiments::switch(conn, id, Status::Active).await?,
        };
        routing_changed(conn, activated).await
    })
    .await
}

/// Makes an active experiment paused: its public model id answers "not found" until it is active again.
///
/// # Errors
///
/// [`Error::InvalidTransition`] when it is a draft or completed; [`Error::ExperimentNotFound`].
pub async fn pause(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    transaction(conn, async |conn| {
        let experiment = experiments::lock(conn, id).await?;
        match experiment.status {
            Status::Paused => Ok(experiment),
            Status::Active => {
                let paused = experiments::switch(conn, id, Status::Paused).await?;
                routing_changed(conn, paused).await
            }
            from => Err(invalid(id, from, Status::Paused)),
        }
    })
    .await
}

/// Ends an active or paused experiment: its public model id is free for another.
///
/// # Errors
///
/// [`Error::InvalidTransition`] when it is a draft; [`Error::ExperimentNotFound`].
pub async fn complete(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    transaction(conn, async |conn| {
        let experiment = experiments::lock(conn, id).await?;
        match experiment.status {
            Status::Completed => Ok(experiment),
            Status::Active | Status::Paused => {
                let completed = experiments::end(conn, id).await?;
                routing_changed(conn, completed).await
            }
            from @ Status::Draft => Err(invalid(id, from, Status::Completed)),
        }
    })
    .await
}

/// Deletes a draft with its variants and their versions.
///
/// # Errors
///
/// [`Error::NotDraft`] when it is more than a draft; [`Error::HasRequests`] when requests were recorded of
/// it all the same; [`Error::ExperimentNotFound`].
pub async fn delete(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<()> {
    transaction(conn, async |conn| {
        let experiment = experiments::lock(conn, id).await?;
        refuse_changed(&experiment)?;
        experiments::delete(conn, id).await.map_err(|error| name_requests(error, id))?;
        Ok(())
    })
    .await
}

/// Hides an experiment from lists. Routing stays as it is: a paused one stays paused.
///
/// # Errors
///
/// [`Error::ActiveNotArchivable`] when it is active; [`Error::ExperimentNotFound`].
pub async fn archive(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    transaction(conn, async |conn| {
        let experiment = experiments::lock(conn, id).await?;
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
pub async fn unarchive(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    transaction(conn, async |conn| {
        let experiment = experiments::lock(conn, id).await?;
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

/// A version that served a request can't be deleted.
pub(super) fn name_requests(error: Error, experiment: ExperimentId) -> Error {
    match error {
        Error::Violated { constraint: Constraint::RequestVersion } => {
            Error::HasRequests(experiment)
        }
        error => error,
    }
}

/// Refuses to touch the structure of an experiment that has left draft.
pub(super) fn refuse_changed(experiment: &Experiment) -> Result<()> {
    match experiment.status {
        Status::Draft => Ok(()),
        status => Err(Error::NotDraft { experiment: experiment.id, status }),
    }
}

/// Refuses to activate a locked experiment that lacks something.
async fn refuse_unready(conn: &mut AsyncPgConnection, experiment: &Experiment) -> Result<()> {
    let not_ready = |reason| Err(Error::NotReady { experiment: experiment.id, reason });
    if experiment.is_archived {
        return not_ready(NotReady::Archived);
    }
    let at = clock(conn).await?;
    let variants = versions::list_current(conn, experiment.id, at).await?;
    if variants.is_empty() {
        return not_ready(NotReady::NoVariant);
    }
    match variants.into_iter().find(|(_, current)| current.is_none()) {
        Some((variant, _)) => {
            not_ready(NotReady::NoCurrentVersion { variant: variant.id, label: variant.label })
        }
        None => Ok(()),
    }
}

/// Refuses to activate an experiment whose public model id another one serves.
async fn refuse_taken(conn: &mut AsyncPgConnection, experiment: &Experiment) -> Result<()> {
    match experiments::find_routed(conn, &experiment.public_model_id).await? {
        Some(routed) if routed.id != experiment.id => Err(Error::PublicModelIdTaken {
            public_model_id: routed.public_model_id,
            routed_by: routed.id,
        }),
        _ => Ok(()),
    }
}
