//! Recording served requests: usages and their requests, 1:1, idempotent.
//!
//! - [`record`] records over a connection of the caller, and returns when the statement ended.
//! - [`Recorder`] records in batches in the background, with retries and bounded memory.

mod insertion;
pub mod record;
mod recorder;
mod served_by;
pub(crate) mod statements;
mod types;

pub use crate::recording::recorder::Recorder;
pub use crate::recording::recorder::options::RecorderOptions;
pub use crate::recording::recorder::receipt::{NotRecorded, Receipt};
pub use crate::recording::types::{Outcome, Record};
pub use crate::tables::requests::{
    NewRequest, Request, find as find_request, list_by_client_request_id as list_requests,
};
pub use crate::tables::usages::{Usage, find as find_usage};
