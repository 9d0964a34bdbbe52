//! Telling routing caches what changed, in the transaction that changes it.

use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_async::AsyncPgConnection;

use crate::error::Result;
use crate::tables::experiments::Experiment;
use crate::tables::{Returns, Void};
use crate::values::{PublicModelId, Status};

/// The channel that routing caches listen on. A notification on it holds the public model id whose routing changed.
pub(crate) const CHANNEL: &str = "model_experiment_routing";

#[diesel::declare_sql_function]
extern "SQL" {
    /// Sends `payload` to whoever listens on `channel`, once the transaction is committed.
    fn pg_notify(channel: Text, payload: Text) -> Void;
}

/// True: the function itself returns nothing that could be read.
fn notification(public_model_id: &PublicModelId) -> impl Returns<bool> {
    diesel::select(pg_notify(CHANNEL, public_model_id.as_str()).is_not_null())
}

/// Has routing caches load what is routed on the public model id of `experiment` anew, once the transaction is
/// committed. Nothing of a draft is routed.
pub(super) async fn routing_changed(
    conn: &mut AsyncPgConnection,
    experiment: Experiment,
) -> Result<Experiment> {
    if experiment.status != Status::Draft {
        let _: bool = notification(&experiment.public_model_id).one(conn).await?;
    }
    Ok(experiment)
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};

    vec![query!(notification(&seed::model(4))).rows(1, 0)]
}
