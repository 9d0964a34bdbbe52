//! Prompts as hashes: what is captured of a request, and how rows refer to it.

mod canonical_json;
mod capped_text;
mod capture;
mod captured_text;
mod failure;
mod refs;
mod sha256;

pub use crate::values::prompt::capture::{CAPTURE_CAP, PromptCapture};
pub use crate::values::prompt::captured_text::CapturedText;
pub use crate::values::prompt::failure::CaptureFailure;
pub use crate::values::prompt::refs::{RequestBodyRef, SystemPromptRef};
pub use crate::values::prompt::sha256::Sha256Digest;
