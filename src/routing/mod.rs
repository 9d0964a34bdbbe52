//! Who serves a request: the variant that a subject is bucketed into, and the version that it
//! serves now.
//!
//! A gateway asks a [`RoutingCache`] on each request, which answers from memory. [`load`] asks the
//! database once. Both give a [`Route`] to match on.
//!
//! This is the only module that loads encrypted keys.

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
