//! Who serves a request: which variant a subject is bucketed into, and what it serves now.
//!
//! The only room in which an encrypted key is loaded.

pub(crate) mod bucketing;
mod cache;
mod decision;
mod experiment;
mod fingerprint;
pub(crate) mod query;
mod rows;
mod unavailable;
mod variants;

pub use crate::routing::bucketing::{CumulativeWeights, Subject, bucket};
pub use crate::routing::cache::{RoutingCache, RoutingOptions};
pub use crate::routing::decision::{Route, Served};
pub use crate::routing::experiment::RoutedExperiment;
pub use crate::routing::query::{load, load_all};
pub use crate::routing::unavailable::Unavailable;
