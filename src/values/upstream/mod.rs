//! Upstreams: which checkpoint a variant calls, where and how.

mod base_url;
mod compact_object;
mod configuration;
mod credentials;
mod fields;
mod limits;
mod settings;

pub use crate::values::upstream::configuration::Upstream;
pub use crate::values::upstream::settings::{
    AiSdkProvider, ApiAdapter, OpenclawSettings, OpencodeSettings,
};
