//! A version is inserted without being published.

use model_experiments::experiments::Version;
use model_experiments::schema::model_experiment_variant_version;

fn insert(version: &Version) {
    let _ = diesel::insert_into(model_experiment_variant_version::table).values(version);
}

fn main() {}
