//! A status is changed like a name, outside of the lifecycle.

use model_experiments::experiments::ExperimentChanges;
use model_experiments::values::Status;

fn reopen() -> ExperimentChanges {
    ExperimentChanges::default().status(Status::Active)
}

fn main() {}
