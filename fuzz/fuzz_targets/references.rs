//! A reference or digest is displayed as the text it was parsed from; a body is never absent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model_experiments::values::{
    AllocationSubject, InvalidValue, RequestBodyRef, Sha256Digest, Status, SystemPromptRef,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::{Debug, Display};
use std::str::FromStr;

/// Parses `text`, and checks that the value is displayed as `text`.
fn read<T>(text: &str) -> Option<T>
where
    T: FromStr<Err = InvalidValue> + Display + Debug + PartialEq,
{
    let value: T = text.parse().ok()?;
    assert_eq!(value.to_string(), text);
    Some(value)
}

/// Checks that serde reads `value` from `text` and writes it back.
fn check_serde<T: serde::Serialize + DeserializeOwned + Debug + PartialEq>(
    text: &str,
    value: Option<&T>,
) {
    let json = Value::from(text);
    assert_eq!(serde_json::from_value::<T>(json.clone()).ok().as_ref(), value);
    if let Some(value) = value {
        assert_eq!(serde_json::to_value(value).unwrap(), json);
    }
}

fuzz_target!(|text: &str| {
    // Texts that the constraints of the table allow.
    let is_digest =
        text.len() == 64 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let is_body = is_digest || ["__failed__", "__deleted__"].contains(&text);

    let digest = read::<Sha256Digest>(text);
    assert_eq!(digest.is_some(), is_digest);
    let body = read::<RequestBodyRef>(text);
    assert_eq!(body.is_some(), is_body);
    let system = read::<SystemPromptRef>(text);
    assert_eq!(system.is_some(), is_body || text == "__absent__");
    assert_eq!(digest.map(RequestBodyRef::Sha256), body.filter(|_| is_digest));
    assert_eq!(digest.map(SystemPromptRef::Sha256), system.filter(|_| is_digest));
    if let Some(digest) = digest {
        assert_eq!(Sha256Digest::from(*digest.as_bytes()), digest);
    }

    check_serde(text, body.as_ref());
    check_serde(text, system.as_ref());
    check_serde(text, read::<Status>(text).as_ref());
    check_serde(text, read::<AllocationSubject>(text).as_ref());
});
