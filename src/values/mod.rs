//! The values that rows are made of: types that can't hold a bad one.
//!
//! Each value is checked when it is made, says on failure which field was wrong and why
//! ([`InvalidValue`]), and maps to its column type. No message repeats the text that was refused.

mod allocation_subject;
mod api_key_cipher;
mod canonical_json;
mod captured_text;
mod compact_object;
mod encrypted_api_key;
mod ids;
mod invalid;
mod label;
mod nesting;
mod prompt_capture;
mod prompt_refs;
mod public_model_id;
mod sha256;
mod status;
mod stored_as_text;
mod text;
mod timestamp;
mod upstream;
mod weight;

pub use allocation_subject::AllocationSubject;
pub use api_key_cipher::{ApiKeyCipher, CipherError};
pub use captured_text::CapturedText;
pub use encrypted_api_key::EncryptedApiKey;
pub use ids::{ExperimentId, UsageId, VariantId, VersionId};
pub use invalid::InvalidValue;
pub use label::Label;
pub use prompt_capture::{CAPTURE_CAP, PromptCapture};
pub use prompt_refs::{RequestBodyRef, SystemPromptRef};
pub use public_model_id::PublicModelId;
pub use sha256::Sha256Digest;
pub use status::Status;
pub use timestamp::Timestamp;
pub use upstream::{AiSdkProvider, ApiAdapter, OpenclawSettings, OpencodeSettings, Upstream};
pub use weight::Weight;

pub(crate) use stored_as_text::stored_as_text;
pub(crate) use text::{indexable, shrink_to_fit, storable};
pub(crate) use timestamp::stored;
