//! Statements that insert usages and requests, and list stored ones.

mod common_tables;
pub(crate) mod many;
pub(crate) mod one;
