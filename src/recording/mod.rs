//! What was served: usages and their requests, 1:1, safe to repeat.

mod insertion;
pub mod record;
mod recorder;
mod served_by;
pub(crate) mod statements;

pub use crate::recording::insertion::{Outcome, Record};
pub use crate::recording::recorder::{NotRecorded, Receipt, Recorder, RecorderOptions};
pub use crate::tables::requests::{
    NewRequest, Request, find as find_request, list_by_client_request_id as list_requests,
};
pub use crate::tables::usages::{Usage, find as find_usage};
