//! Encryption and decryption of API keys.

use aes_gcm::aead::{AeadInOut, Generate, KeyInit, Nonce, Tag};
use aes_gcm::{Aes256Gcm, Key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::sync::Arc;

use crate::values::api_key::encrypted::EncryptedApiKey;
use crate::values::invalid::InvalidValue;
use crate::values::text::MAX_TEXT;

/// Longest API key, in bytes; its ciphertext in base64 is as long as [`MAX_TEXT`].
const MAX_API_KEY: usize = MAX_TEXT / 4 * 3;

/// Cipher of API keys: AES-256-GCM under master keys.
///
/// Encrypts under the primary key, and decrypts under it and any previous ones. There is no
/// associated data. Each encryption draws a random 12-byte nonce, so a master key may encrypt at
/// most 2³² API keys (NIST SP 800-38D, 8.3).
///
/// Master keys and decrypted API keys are overwritten on the heap before it is freed. Copies on the
/// stack aren't.
///
/// # Logs
///
/// At the level `DEBUG`, the database driver logs the parameters of every statement through the
/// `log` crate: encrypted API keys, hashes of prompts and ids of users. Keep that level off for its
/// target, with `tokio_postgres=info` in an `EnvFilter`, or a `max_level_info` feature of `log`. At
/// `INFO` it logs nothing that a statement holds.
///
/// ```
/// use model_experiments::values::ApiKeyCipher;
/// use secrecy::{ExposeSecret, SecretString};
///
/// let master = SecretString::from("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
/// let cipher = ApiKeyCipher::new(&master)?;
/// let encrypted = cipher.encrypt(&SecretString::from("sk-partner"))?;
/// assert_eq!(cipher.decrypt(&encrypted)?.expose_secret(), "sk-partner");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ApiKeyCipher {
    // Shared, because whatever moves a key leaves a copy of it behind, such as a vector that grows.
    primary: Arc<Aes256Gcm>,
    previous: Vec<Arc<Aes256Gcm>>,
}

/// Error of encrypting or decrypting an API key, which it never quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CipherError {
    /// The API key to encrypt is empty.
    #[error("an API key must not be empty")]
    EmptyApiKey,
    /// The system supplied no random nonce.
    #[error("the system's random number generator failed; retry")]
    NoRandomness,
    /// The API key to encrypt is longer than 49,152 bytes.
    #[error("an API key must be at most 49152 bytes long")]
    TooLong,
    /// No key decrypts it: it was encrypted under another master key, or altered.
    #[error(
        "no key of this cipher decrypts the API key; add the master key it was encrypted under"
    )]
    WrongKey,
    /// The decrypted API key isn't UTF-8 text.
    #[error("the decrypted API key is not UTF-8 text; publish a new key")]
    NotText,
}

impl ApiKeyCipher {
    /// Cipher with the primary key `primary`, the base64 of 32 bytes.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] if `primary` is anything else.
    pub fn new(primary: &SecretString) -> Result<Self, InvalidValue> {
        Ok(Self { primary: master_key(primary)?, previous: Vec::new() })
    }

    /// Adds the previous key `previous`, the base64 of 32 bytes.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] if `previous` is anything else.
    pub fn with_previous(mut self, previous: &SecretString) -> Result<Self, InvalidValue> {
        self.previous.push(master_key(previous)?);
        Ok(self)
    }

    /// Encrypts `api_key` under the primary key.
    ///
    /// # Errors
    ///
    /// [`CipherError`] if `api_key` is empty or too long, or the system supplies no randomness.
    pub fn encrypt(&self, api_key: &SecretString) -> Result<EncryptedApiKey, CipherError> {
        let plaintext = api_key.expose_secret().as_bytes();
        if plaintext.is_empty() {
            return Err(CipherError::EmptyApiKey);
        }
        if plaintext.len() > MAX_API_KEY {
            return Err(CipherError::TooLong);
        }
        let nonce = Nonce::<Aes256Gcm>::try_generate().map_err(|_| CipherError::NoRandomness)?;
        let mut buffer = Zeroizing::new(plaintext.to_vec());
        let tag = self
            .primary
            .encrypt_inout_detached(&nonce, &[], buffer.as_mut_slice().into())
            .map_err(|_| CipherError::TooLong)?;
        Ok(EncryptedApiKey { nonce: nonce.into(), ciphertext: buffer.to_vec(), tag: tag.into() })
    }

    /// Decrypts `api_key` under the primary key, else under a previous one.
    ///
    /// # Errors
    ///
    /// [`CipherError`] if no key decrypts `api_key`, or it isn't UTF-8 text.
    pub fn decrypt(&self, api_key: &EncryptedApiKey) -> Result<SecretString, CipherError> {
        let plaintext = std::iter::once(&self.primary)
            .chain(&self.previous)
            .find_map(|key| decrypt_with(key, api_key))
            .ok_or(CipherError::WrongKey)?;
        let text = std::str::from_utf8(&plaintext).map_err(|_| CipherError::NotText)?;
        Ok(SecretString::from(text))
    }
}

fn decrypt_with(key: &Aes256Gcm, api_key: &EncryptedApiKey) -> Option<Zeroizing<Vec<u8>>> {
    let nonce = Nonce::<Aes256Gcm>::from(api_key.nonce);
    let tag = Tag::<Aes256Gcm>::from(api_key.tag);
    let mut buffer = Zeroizing::new(api_key.ciphertext.clone());
    key.decrypt_inout_detached(&nonce, &[], buffer.as_mut_slice().into(), &tag).ok()?;
    Some(buffer)
}

fn master_key(base64: &SecretString) -> Result<Arc<Aes256Gcm>, InvalidValue> {
    let invalid = || InvalidValue::new("master key", "must be the base64 of 32 bytes");
    // One byte longer than a key, so that longer input isn't cut to one.
    let mut bytes = Zeroizing::new([0; 33]);
    let length = STANDARD
        .decode_slice(base64.expose_secret(), bytes.as_mut_slice())
        .map_err(|_| invalid())?;
    let key: &Key<Aes256Gcm> = bytes[..length].try_into().map_err(|_| invalid())?;
    Ok(Arc::new(Aes256Gcm::new(key)))
}

impl fmt::Debug for ApiKeyCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeyCipher([redacted], {} previous)", self.previous.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MASTER: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const OTHER: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

    fn cipher(master: &str) -> ApiKeyCipher {
        ApiKeyCipher::new(&master.into()).unwrap()
    }

    fn stored(data: &str, tag: &str) -> EncryptedApiKey {
        let json = json!({"iv": "AAECAwQFBgcICQoL", "data": data, "authTag": tag});
        EncryptedApiKey::from_json(json).unwrap()
    }

    /// Vectors of Node's `createCipheriv('aes-256-gcm', …)` with the nonce 000102…0b.
    #[test]
    fn decrypts_what_node_encrypted() {
        for (data, tag, expected) in [
            ("Xo6WDLhqpsLNrlyP", "CUdfpjrxfuw5EiId0QgXpg==", "sk-partner-1"),
            ("XobTEBqkod/NsFFO7ltA", "TYWj4L1QvPkaZDZPLmX6aQ==", "schlüssel 🔑"),
        ] {
            let decrypted = cipher(MASTER).decrypt(&stored(data, tag)).unwrap();
            assert_eq!(decrypted.expose_secret(), expected);
        }
    }

    #[test]
    fn no_two_encryptions_are_alike() {
        let cipher = cipher(MASTER);
        let (a, b) = (cipher.encrypt(&"sk".into()).unwrap(), cipher.encrypt(&"sk".into()).unwrap());
        assert!(a.nonce != b.nonce && a.ciphertext != b.ciphertext && a.tag != b.tag);
        assert_eq!(cipher.decrypt(&a).unwrap().expose_secret(), "sk");
        assert_eq!(cipher.decrypt(&b).unwrap().expose_secret(), "sk");
    }

    #[test]
    fn previous_keys_decrypt_and_the_primary_encrypts() {
        let old = cipher(OTHER).encrypt(&"sk".into()).unwrap();
        assert_eq!(cipher(MASTER).decrypt(&old).unwrap_err(), CipherError::WrongKey);
        let both = cipher(MASTER).with_previous(&OTHER.into()).unwrap();
        assert_eq!(both.decrypt(&old).unwrap().expose_secret(), "sk");
        let new = both.encrypt(&"sk".into()).unwrap();
        assert!(cipher(MASTER).decrypt(&new).is_ok() && cipher(OTHER).decrypt(&new).is_err());
    }

    #[test]
    fn what_was_altered_is_refused() {
        let encrypted = cipher(MASTER).encrypt(&"sk-partner-1".into()).unwrap();
        let mut altered = [encrypted.clone(), encrypted.clone(), encrypted];
        altered[0].nonce[0] ^= 1;
        altered[1].ciphertext[3] ^= 1;
        altered[2].tag[15] ^= 1;
        for altered in altered {
            assert_eq!(cipher(MASTER).decrypt(&altered).unwrap_err(), CipherError::WrongKey);
        }
    }

    #[test]
    fn the_longest_key_is_read_back_and_a_longer_one_is_refused() {
        let longest = SecretString::from("x".repeat(49_152));
        let json = cipher(MASTER).encrypt(&longest).unwrap().to_json();
        let stored = EncryptedApiKey::from_json(json).unwrap();
        let decrypted = cipher(MASTER).decrypt(&stored).unwrap();
        assert_eq!(decrypted.expose_secret(), longest.expose_secret());
        let longer = SecretString::from("x".repeat(49_153));
        let error = cipher(MASTER).encrypt(&longer).unwrap_err();
        assert_eq!(error.to_string(), "an API key must be at most 49152 bytes long");
    }

    #[test]
    fn says_what_is_wrong_and_never_the_key() {
        assert_eq!(cipher(MASTER).encrypt(&"".into()).unwrap_err(), CipherError::EmptyApiKey);
        // The bytes ff fe, encrypted by Node.
        let bytes = stored("0hs=", "e90T3e7ZE8VvZSP9/7wxuQ==");
        assert_eq!(cipher(MASTER).decrypt(&bytes).unwrap_err(), CipherError::NotText);
        for master in ["", "short", "c2hvcnQ=", &MASTER[..43], &format!("{MASTER}AAAA")] {
            let error = ApiKeyCipher::new(&master.into()).unwrap_err().to_string();
            assert_eq!(error, "master key must be the base64 of 32 bytes");
        }
        let both = cipher(MASTER).with_previous(&OTHER.into()).unwrap();
        assert_eq!(format!("{both:?}"), "ApiKeyCipher([redacted], 1 previous)");
    }
}
