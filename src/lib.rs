//! A/B tests of preview LLM checkpoints behind a gateway, on PostgreSQL, with every query checked by the
//! compiler.
//!
//! - [`tables`] says what is stored, [`operations`] what a service does, [`values`] what both are made of.
//! - [`bucketing`] is the pure function that assigns users to variants.
//! - [`RoutingCache`] answers from memory who serves a request.
//! - [`Pool`], [`connection`] and [`migrations`] lead to a database with the schema.
//!
//! Every query takes `&mut AsyncPgConnection` first, so that it joins a transaction of the caller's.

mod database;
pub mod error;
pub mod experiments;
pub mod recording;
pub mod reports;
pub mod routing;
#[expect(missing_docs, reason = "generated: the database's comments document tables and columns")]
pub mod schema;
mod sql;
mod tables;
pub mod values;

pub use crate::database::connect::ConnectOptions;
pub use crate::database::migrations;
pub use crate::database::pool::{Pool, PoolOptions, PoolStatus};
pub use crate::database::pooled_connection::PooledConnection;
pub use crate::error::{Error, Result};
pub use crate::recording::{Recorder, RecorderOptions};
pub use crate::routing::{RoutingCache, RoutingOptions};
pub use crate::sql::page::{Cursor, Page};
pub use diesel_async::{AsyncConnection, AsyncPgConnection};
pub use {chrono, secrecy, serde_json, uuid};

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
