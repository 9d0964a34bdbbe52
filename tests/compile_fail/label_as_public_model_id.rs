//! A variant's label as a public model id.

use model_experiments::experiments::NewExperiment;
use model_experiments::values::Label;

fn behind(label: Label) -> NewExperiment {
    NewExperiment::new(label, "Foo: rc1")
}

fn main() {}
