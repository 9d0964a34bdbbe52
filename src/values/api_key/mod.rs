//! An upstream's API key: encrypted where it is stored, decrypted where it is used.

mod cipher;
mod encrypted;

pub use crate::values::api_key::cipher::{ApiKeyCipher, CipherError};
pub use crate::values::api_key::encrypted::EncryptedApiKey;
