//! A version is changed and written back.

use diesel::prelude::*;
use model_experiments::experiments::Version;
use model_experiments::schema::model_experiment_variant_version;

fn update(version: &Version) {
    let row = model_experiment_variant_version::table.find(version.id);
    let _ = diesel::update(row).set(version);
}

fn main() {}
