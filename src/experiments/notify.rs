//! Telling routing caches what changed, in the transaction that changes it.

use diesel_async::AsyncPgConnection;

use crate::error::Result;
use crate::sql::functions::pg_notify;
use crate::sql::run::Executes;
use crate::tables::experiments::Experiment;
use crate::values::{PublicModelId, Status};

/// The channel that routing caches listen on. A notification on it holds the public model id whose routing changed.
pub(crate) const CHANNEL: &str = "model_experiment_routing";

fn notify_query(public_model_id: &PublicModelId) -> impl Executes {
    diesel::select(pg_notify(CHANNEL, public_model_id.as_str()))
}

/// Has routing caches load what is routed on the public model id of `experiment` anew, once the transaction is
/// committed. Nothing of a draft is routed.
pub(super) async fn routing_changed(
    conn: &mut AsyncPgConnection,
    experiment: Experiment,
) -> Result<Experiment> {
    if experiment.status != Status::Draft {
        notify_query(&experiment.public_model_id).execute(conn).await?;
    }
    Ok(experiment)
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{seed, statement};

    vec![statement!(notify_query(&seed::model(4))).rows(1, 0)]
}
