//! An experiment is changed and written back, outside of its lifecycle.

use diesel::prelude::*;
use model_experiments::experiments::Experiment;
use model_experiments::schema::model_experiment as experiment;

fn update(row: &Experiment) {
    let _ = diesel::update(experiment::table.find(row.id)).set(row);
}

fn main() {}
