//! A version is changed and written back.

use diesel::prelude::*;
use model_experiments::schema::model_experiment_variant_version;
use model_experiments::tables::versions::Version;

fn update(version: &Version) {
    let row = model_experiment_variant_version::table.find(version.id);
    let _ = diesel::update(row).set(version);
}

fn main() {}
