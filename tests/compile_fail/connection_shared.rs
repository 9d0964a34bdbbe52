//! Two operations at once on one connection.

use model_experiments::{AsyncPgConnection, Result};
use model_experiments::experiments::{self, Experiment};
use model_experiments::values::ExperimentId;

async fn both(
    conn: &mut AsyncPgConnection,
    ids: [ExperimentId; 2],
) -> Result<(Option<Experiment>, Option<Experiment>)> {
    let first = experiments::find(conn, ids[0]);
    let second = experiments::find(conn, ids[1]);
    Ok((first.await?, second.await?))
}

fn main() {}
