//! The tables: a file each, with its rows and the queries that concern it alone.

mod differing;
pub mod experiments;
pub mod requests;
pub mod usages;
pub mod variants;
pub mod versions;
