//! A status is changed past the lifecycle.

use model_experiments::{AsyncPgConnection, Result};
use model_experiments::experiments::{self, Experiment};
use model_experiments::values::{ExperimentId, Status};

async fn reopen(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    experiments::switch(conn, id, Status::Active).await
}

fn main() {}
