//! What is stored: one file per table, with its rows and the queries that concern it alone.
//!
//! Every function takes the connection first, so that it joins a transaction of the caller's.

pub mod experiments;
pub mod requests;
pub mod usages;
pub mod variants;
pub mod versions;
