//! A weight is made past its check.

use model_experiments::values::Weight;

fn none() -> Weight {
    Weight(0)
}

fn main() {}
