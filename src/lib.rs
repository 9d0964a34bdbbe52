//! A/B tests of preview LLM checkpoints behind a gateway, on PostgreSQL, with every query checked by the
//! compiler.
//!
//! - [`tables`] says what is stored, [`operations`] what a service does, [`values`] what both are made of.
//! - [`bucketing`] is the pure function that assigns users to variants.
//! - [`RoutingCache`] answers from memory who serves a request.
//! - [`Pool`], [`connection`] and [`migrations`] lead to a database with the schema.
//!
//! Every query takes `&mut AsyncPgConnection` first, so that it joins a transaction of the caller's.

mod backoff;
pub mod bucketing;
pub mod connection;
pub mod error;
pub mod migrations;
pub mod operations;
pub mod pool;
pub mod recorder;
pub mod routing_cache;
#[expect(missing_docs, reason = "generated: the database's comments document tables and columns")]
pub mod schema;
pub mod tables;
pub mod values;

pub use diesel_async::AsyncPgConnection;
pub use error::{Error, Result};
pub use pool::Pool;
pub use recorder::{Recorder, RecorderOptions};
pub use routing_cache::{RoutingCache, RoutingOptions};
pub use secrecy;

#[cfg(test)]
extern crate self as model_experiments;
#[cfg(test)]
#[path = "../tests/registry/mod.rs"]
mod registry;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/prompts.md")]
struct Prompts;
