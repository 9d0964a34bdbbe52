//! An accepted encrypted key is written back unchanged, decrypts only as it was encrypted, and is
//! never shown.

#![no_main]

mod json;

use arbitrary::Arbitrary;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use model_experiments::values::{ApiKeyCipher, CipherError, EncryptedApiKey, InvalidValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use std::sync::LazyLock;

use json::{Json, Name, SECRET};

static CIPHER: LazyLock<ApiKeyCipher> = LazyLock::new(|| {
    let master = |text: &str| SecretString::from(text);
    ApiKeyCipher::new(&master("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="))
        .unwrap()
        .with_previous(&master("ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="))
        .unwrap()
});

/// Stored key with few mistakes.
#[derive(Arbitrary)]
struct Candidate {
    iv: Text<12>,
    data: Text<5>,
    tag: Text<16>,
    other: Option<(Name, Json)>,
}

#[derive(Arbitrary)]
enum Text<const LENGTH: usize> {
    Exact([u8; LENGTH]),
    Encoded(Vec<u8>),
    Any(Json),
}

impl<const LENGTH: usize> From<Text<LENGTH>> for Value {
    fn from(text: Text<LENGTH>) -> Self {
        match text {
            Text::Exact(bytes) => STANDARD.encode(bytes).into(),
            Text::Encoded(bytes) => STANDARD.encode(bytes).into(),
            Text::Any(json) => json.into(),
        }
    }
}

impl From<Candidate> for Value {
    fn from(candidate: Candidate) -> Self {
        let Candidate { iv, data, tag, other } = candidate;
        let fields = [("iv", iv.into()), ("data", data.into()), ("authTag", tag.into())];
        let mut fields: Map<_, _> =
            fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if let Some((name, value)) = other {
            fields.insert(name.into(), value.into());
        }
        fields.into()
    }
}

fn accepted(json: &Value, key: &EncryptedApiKey) {
    assert_eq!(&key.to_json(), json);
    assert_eq!(format!("{key:?}"), "EncryptedApiKey([redacted])");
    // The cipher prevents that a made-up key decrypts.
    assert_eq!(CIPHER.decrypt(key).unwrap_err(), CipherError::WrongKey);
}

fn refused(error: &InvalidValue) {
    let fields = ["encrypted API key", "iv", "data", "authTag"];
    assert!(fields.contains(&error.field()) && !error.to_string().contains(SECRET), "{error}");
}

/// Checks that a text decrypts to itself, and not at all after one bit of a field was flipped.
fn altered(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let encrypted = match CIPHER.encrypt(&text.into()) {
        Ok(encrypted) => encrypted,
        Err(error) => return assert_eq!((error, text), (CipherError::EmptyApiKey, "")),
    };
    assert_eq!(CIPHER.decrypt(&encrypted).unwrap().expose_secret(), text);
    for field in ["iv", "data", "authTag"] {
        let mut json = encrypted.to_json();
        let mut bytes = STANDARD.decode(json[field].as_str().unwrap()).unwrap();
        let bit = text.len() % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        json[field] = STANDARD.encode(bytes).into();
        let altered = EncryptedApiKey::from_json(json).unwrap();
        assert_eq!(CIPHER.decrypt(&altered).unwrap_err(), CipherError::WrongKey);
    }
}

fn master(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let is_key = STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 32);
    match ApiKeyCipher::new(&text.into()) {
        Ok(cipher) => assert!(is_key && !format!("{cipher:?}").contains(text)),
        Err(error) => {
            assert!(!is_key);
            assert_eq!(error.to_string(), "master key must be the base64 of 32 bytes");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    if let Some(json) = json::read::<Candidate>(data) {
        match EncryptedApiKey::from_json(json.clone()) {
            Ok(key) => accepted(&json, &key),
            Err(error) => refused(&error),
        }
    }
    altered(data);
    master(data);
});
