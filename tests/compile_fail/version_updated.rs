//! A version is changed and written back.

use diesel::prelude::*;
use model_experiments::experiments::Version;
use model_experiments::schema::model_experiment_variant_version as version;

fn update(row: &Version) {
    let _ = diesel::update(version::table.find(row.id)).set(row);
}

fn main() {}
