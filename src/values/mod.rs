//! Values that rows consist of, as types that hold no invalid value.
//!
//! Each type checks its value once and maps to a column type. [`InvalidValue`] names the field and
//! the broken rule, and never quotes the refused value.

mod allocation_subject;
mod api_key;
mod ids;
mod invalid;
mod label;
mod prompt;
mod public_model_id;
mod readable;
mod status;
mod stored_as_text;
mod text;
mod timestamp;
mod upstream;
mod weight;

pub use crate::values::allocation_subject::AllocationSubject;
pub use crate::values::api_key::{ApiKeyCipher, CipherError, EncryptedApiKey};
pub use crate::values::ids::{ExperimentId, UsageId, VariantId, VersionId};
pub use crate::values::invalid::InvalidValue;
pub use crate::values::label::Label;
pub use crate::values::prompt::{
    CAPTURE_CAP, CaptureFailure, CapturedText, PromptCapture, RequestBodyRef, Sha256Digest,
    SystemPromptRef,
};
pub use crate::values::public_model_id::PublicModelId;
pub(crate) use crate::values::readable::Readable;
pub use crate::values::status::Status;
pub(crate) use crate::values::text::{indexable, shrink_to_fit, storable};
pub use crate::values::timestamp::Timestamp;
pub use crate::values::upstream::{
    AiSdkProvider, ApiAdapter, OpenclawSettings, OpencodeSettings, Upstream,
};
pub use crate::values::weight::Weight;
