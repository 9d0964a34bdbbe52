//! The statements that record.

mod common_tables;
pub(crate) mod many;
pub(crate) mod one;
