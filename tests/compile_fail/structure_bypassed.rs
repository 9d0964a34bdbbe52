//! A variant is written back with another weight, whether or not its experiment is a draft.

use diesel::prelude::*;
use model_experiments::experiments::Variant;
use model_experiments::schema::model_experiment_variant as variant;
use model_experiments::values::Weight;

fn grow(mut row: Variant, weight: Weight) {
    row.weight = weight;
    let _ = diesel::update(variant::table.find(row.id)).set(&row);
}

fn main() {}
