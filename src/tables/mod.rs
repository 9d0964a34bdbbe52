//! What is stored: one file per table, with its rows and the queries that concern it alone.
//!
//! Every function takes the connection first, so that it joins a transaction of the caller's.

pub mod experiments;
pub mod requests;
pub mod usages;
pub mod variants;
pub mod versions;

mod cached;
pub(crate) mod clock;
mod first;
mod page;
mod rows;
mod status_literal;
mod void;

pub(crate) use cached::Cached;
pub(crate) use clock::{clock, no_earlier_than, statement_timestamp};
pub(crate) use first::First;
pub use page::{Cursor, Page};
pub(crate) use rows::Returns;
pub(crate) use status_literal::StatusLiteral;
pub(crate) use void::Void;
