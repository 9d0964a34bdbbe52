//! Who serves a request: bucketing, decisions from the database, and decisions from the cache.

mod bucketing;
pub mod cache;
mod query;
