//! An experiment's life: what it is made of, what its variants serve, and when.
//!
//! Every function takes the connection first, so that it joins a transaction of the caller's; inside one,
//! an operation's own transaction is a savepoint. READ COMMITTED, PostgreSQL's default, is what they are made
//! for. At SERIALIZABLE they may fail with a retryable error; at REPEATABLE READ nothing can be activated.
//!
//! An operation that is cancelled, as by a timeout around it, may leave its transaction open on the server. The
//! connection then refuses everything with a retryable error: drop it, and take another.

mod lifecycle;
pub(crate) mod notify;
mod publish;
mod rules;
mod structure;

pub use crate::experiments::lifecycle::{activate, archive, complete, delete, pause, unarchive};
pub use crate::experiments::publish::{publish, rotate_key};
pub use crate::experiments::structure::{
    add_variant, create, remove_variant, set_label, set_weight, update,
};
pub use crate::tables::experiments::{
    Experiment, ExperimentChanges, ExperimentFilter, NewExperiment, find, list,
};
pub use crate::tables::variants::{Variant, find as find_variant, list as list_variants};
pub use crate::tables::versions::{
    NewVersion, Version, find as find_version, find_current as find_current_version,
    list as list_versions, list_current as list_current_versions,
};
