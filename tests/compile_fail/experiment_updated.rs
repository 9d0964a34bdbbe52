//! An experiment is changed and written back, past its lifecycle.

use diesel::prelude::*;
use model_experiments::experiments::Experiment;
use model_experiments::schema::model_experiment;

fn update(experiment: &Experiment) {
    let row = model_experiment::table.find(experiment.id);
    let _ = diesel::update(row).set(experiment);
}

fn main() {}
