//! Notifications to routing caches, sent by the transaction that changes routing.

use diesel_async::AsyncPgConnection;

use crate::error::Result;
use crate::sql::functions::pg_notify;
use crate::sql::run::Executes;
use crate::tables::experiments::Experiment;
use crate::values::{PublicModelId, Status};

/// The channel that routing caches listen on. The payload is the public model id whose routing
/// changed.
pub(crate) const CHANNEL: &str = "model_experiment_routing";

fn notify_query(public_model_id: &PublicModelId) -> impl Executes {
    diesel::select(pg_notify(CHANNEL, public_model_id.as_str()))
}

/// Notifies routing caches, when the transaction commits, that the routing of `experiment` changed.
/// A draft isn't routed.
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
