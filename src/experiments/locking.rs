//! The lock on an experiment's row, which every change of it takes first.

use diesel_async::AsyncPgConnection;

use crate::database::transaction::transaction;
use crate::error::{Error, Result, Transient};
use crate::tables::experiments::{self, Experiment};
use crate::tables::variants;
use crate::values::{ExperimentId, VariantId};

/// Runs `change` in a transaction that has locked the experiment `id`.
///
/// When the lock isn't had in time, the error names the session that holds it.
pub(super) async fn with_experiment<R>(
    conn: &mut AsyncPgConnection,
    id: ExperimentId,
    change: impl AsyncFnOnce(&mut AsyncPgConnection, Experiment) -> Result<R>,
) -> Result<R> {
    let changed = transaction(conn, async |conn| {
        let experiment = experiments::lock(conn, id).await?;
        change(conn, experiment).await
    })
    .await;
    match changed {
        Err(Error::Transient { kind: Transient::LockTimeout, cause }) => {
            // A role that may not ask learns no more than that there is one.
            let holder = experiments::lock_holder(conn, id).await.unwrap_or_default();
            Err(Error::Locked { holder, cause })
        }
        changed => changed,
    }
}

/// Runs `change` in a transaction that has locked the experiment of `variant`, as
/// [`with_experiment`] does.
pub(super) async fn with_experiment_of<R>(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    change: impl AsyncFnOnce(&mut AsyncPgConnection, Experiment) -> Result<R>,
) -> Result<R> {
    // A variant never moves to another experiment.
    let id = variants::find_experiment(conn, variant).await?;
    let changed = with_experiment(conn, id, change).await;
    changed.map_err(|error| match error {
        Error::ExperimentNotFound(_) => Error::VariantNotFound(variant),
        error => error,
    })
}
