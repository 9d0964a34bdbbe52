//! An experiment's life: its structure, what its variants serve, and its status.
//!
//! ```text
//! create ─▶ draft ─▶ active ⇄ paused ─▶ completed
//!             └▶ delete
//! ```
//!
//! # Transactions
//!
//! Every function takes the connection first. An operation opens a READ COMMITTED transaction of
//! its own, or a savepoint within a transaction of yours. It locks the experiment's row first, so
//! that callers who race see each other's outcome. A wait for that lock ends after 5 seconds, or
//! after the session's `lock_timeout`, with [`Error::Locked`](crate::Error::Locked).
//!
//! Within a transaction of yours at REPEATABLE READ or SERIALIZABLE, what was committed since its
//! snapshot would be overlooked. A change of status, structure or versions is refused there, with
//! [`Error::IsolationTooStrict`](crate::Error::IsolationTooStrict).
//!
//! # Cancellation
//!
//! An operation that is dropped in the middle may leave its transaction open on the server. The
//! connection then refuses everything with a retryable error: drop it, and take another.
//!
//! # Errors
//!
//! Every function may also fail with [`Error::Transient`](crate::Error::Transient) or
//! [`Error::Database`](crate::Error::Database). An operation that fails has written nothing.

mod lifecycle;
mod locking;
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
    NewVersion, Version, find as find_version, find_at as find_version_at,
    find_current as find_current_version, list as list_versions, list_at as list_versions_at,
    list_current as list_current_versions,
};
