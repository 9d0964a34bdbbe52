//! A version is inserted and not published.

use model_experiments::experiments::Version;
use model_experiments::schema::model_experiment_variant_version as version;

fn insert(row: &Version) {
    let _ = diesel::insert_into(version::table).values(row);
}

fn main() {}
