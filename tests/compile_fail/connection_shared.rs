//! Two operations run on one connection at the same time.

use model_experiments::experiments::{self, Experiment};
use model_experiments::values::ExperimentId;
use model_experiments::{AsyncPgConnection, Result};

async fn both(
    conn: &mut AsyncPgConnection,
    one: ExperimentId,
    other: ExperimentId,
) -> Result<(Option<Experiment>, Option<Experiment>)> {
    let first = experiments::find(conn, one);
    let second = experiments::find(conn, other);
    Ok((first.await?, second.await?))
}

fn main() {}
