//! A weight is constructed without its check.

use model_experiments::values::Weight;

fn none() -> Weight {
    Weight(0)
}

fn main() {}
