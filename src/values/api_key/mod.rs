//! API keys of upstreams: encrypted for storage, decrypted for use.

mod cipher;
mod encrypted;

pub use crate::values::api_key::cipher::{ApiKeyCipher, CipherError};
pub use crate::values::api_key::encrypted::EncryptedApiKey;
