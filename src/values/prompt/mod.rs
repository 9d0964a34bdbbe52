//! What of a prompt is kept, and under which hash.

mod canonical_json;
mod capture;
mod captured_text;
mod refs;
mod sha256;

pub use crate::values::prompt::capture::{CAPTURE_CAP, PromptCapture};
pub use crate::values::prompt::captured_text::CapturedText;
pub use crate::values::prompt::refs::{RequestBodyRef, SystemPromptRef};
pub use crate::values::prompt::sha256::Sha256Digest;
