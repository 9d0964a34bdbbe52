//! A text as a status.

use model_experiments::experiments::ExperimentFilter;

fn active() -> ExperimentFilter {
    ExperimentFilter::default().status("active")
}

fn main() {}
