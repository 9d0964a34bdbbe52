//! Encrypted API key, as it is stored.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use diesel::expression::AsExpression;
use diesel::pg::Pg;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Jsonb;
use serde_json::{Value, json};
use std::fmt;

use crate::values::invalid::InvalidValue;
use crate::values::text::storable;

/// API key of an upstream, encrypted with AES-256-GCM.
///
/// Made by [`ApiKeyCipher::encrypt`](crate::values::ApiKeyCipher::encrypt) or read from its stored
/// JSON, which Node's `crypto` reads and writes too. That has exactly three fields:
///
/// - `iv`, a nonce of 12 bytes;
/// - `data`, the ciphertext;
/// - `authTag`, a tag of 16 bytes.
///
/// Each is standard, padded base64 of at most 65,536 bytes.
///
/// `Debug` doesn't show it, and serde doesn't serialise it. No row holds it: only routing reads its
/// column.
#[derive(Clone, PartialEq, Eq, AsExpression)]
#[diesel(sql_type = Jsonb)]
pub struct EncryptedApiKey {
    pub(super) nonce: [u8; 12],
    pub(super) ciphertext: Vec<u8>,
    pub(super) tag: [u8; 16],
}

impl EncryptedApiKey {
    /// Reads the stored JSON.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] unless `json` has exactly these fields, each base64 of the right length.
    pub fn from_json(json: Value) -> Result<Self, InvalidValue> {
        let fields = json.as_object().filter(|fields| fields.len() == 3).ok_or_else(|| {
            InvalidValue::new(
                "encrypted API key",
                "must be an object of exactly iv, data and authTag",
            )
        })?;
        let bytes = |name: &'static str| {
            let not_base64 = || InvalidValue::new(name, "must be standard, padded base64");
            let text = fields.get(name).and_then(Value::as_str).ok_or_else(not_base64)?;
            storable(name, text)?;
            STANDARD.decode(text).map_err(|_| not_base64())
        };
        let ciphertext = bytes("data")?;
        if ciphertext.is_empty() {
            return Err(InvalidValue::new("data", "must not be empty"));
        }
        Ok(Self {
            nonce: bytes("iv")?
                .try_into()
                .map_err(|_| InvalidValue::new("iv", "must be 12 bytes long"))?,
            ciphertext,
            tag: bytes("authTag")?
                .try_into()
                .map_err(|_| InvalidValue::new("authTag", "must be 16 bytes long"))?,
        })
    }

    /// JSON to store, or to pass to another implementation.
    pub fn to_json(&self) -> Value {
        json!({
            "iv": STANDARD.encode(self.nonce),
            "data": STANDARD.encode(&self.ciphertext),
            "authTag": STANDARD.encode(self.tag),
        })
    }
}

impl TryFrom<Value> for EncryptedApiKey {
    type Error = InvalidValue;

    fn try_from(json: Value) -> Result<Self, InvalidValue> {
        Self::from_json(json)
    }
}

impl fmt::Debug for EncryptedApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptedApiKey([redacted])")
    }
}

impl ToSql<Jsonb, Pg> for EncryptedApiKey {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        ToSql::<Jsonb, Pg>::to_sql(&self.to_json(), &mut out.reborrow())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: Value) -> String {
        EncryptedApiKey::from_json(json).unwrap_err().to_string()
    }

    #[test]
    fn reads_the_json_that_it_writes() {
        let key = EncryptedApiKey { nonce: [1; 12], ciphertext: vec![2; 5], tag: [3; 16] };
        assert_eq!(EncryptedApiKey::from_json(key.to_json()).unwrap(), key);
    }

    #[test]
    fn says_which_field_is_wrong() {
        let (iv, data, tag) = ("AQEBAQEBAQEBAQEB", "AgIC", "AwMDAwMDAwMDAwMDAwMDAw==");
        assert!(
            EncryptedApiKey::from_json(json!({"iv": iv, "data": data, "authTag": tag})).is_ok()
        );
        let exactly = "encrypted API key must be an object of exactly iv, data and authTag";
        assert_eq!(refused(json!("sk-key")), exactly);
        assert_eq!(refused(json!({"iv": iv, "data": data})), exactly);
        assert_eq!(refused(json!({"iv": iv, "data": data, "authTag": tag, "x": 1})), exactly);
        assert_eq!(
            refused(json!({"iv": iv, "data": data, "tag": tag})),
            "authTag must be standard, padded base64"
        );
        assert_eq!(
            refused(json!({"iv": 7, "data": data, "authTag": tag})),
            "iv must be standard, padded base64"
        );
        assert_eq!(
            refused(json!({"iv": data, "data": data, "authTag": tag})),
            "iv must be 12 bytes long"
        );
        assert_eq!(
            refused(json!({"iv": iv, "data": data, "authTag": data})),
            "authTag must be 16 bytes long"
        );
        assert_eq!(
            refused(json!({"iv": iv, "data": "", "authTag": tag})),
            "data must not be empty"
        );
        // url-safe alphabet, missing padding
        for bad in ["_-8=", "AgI", "Ag I=", "AgI=\n"] {
            assert_eq!(
                refused(json!({"iv": iv, "data": bad, "authTag": tag})),
                "data must be standard, padded base64"
            );
        }
    }

    #[test]
    fn texts_are_bounded_before_they_are_decoded() {
        let (iv, tag) = ("AQEBAQEBAQEBAQEB", "AwMDAwMDAwMDAwMDAwMDAw==");
        let with = |data: String| json!({"iv": iv, "data": data, "authTag": tag});
        assert!(EncryptedApiKey::from_json(with("A".repeat(65_536))).is_ok());
        let error = refused(with("A".repeat(65_540)));
        assert_eq!(error, "data must be at most 65536 bytes long");
    }

    #[test]
    fn debug_shows_no_byte() {
        let key = EncryptedApiKey { nonce: [1; 12], ciphertext: vec![2; 5], tag: [3; 16] };
        assert_eq!(format!("{key:?}"), "EncryptedApiKey([redacted])");
    }
}
