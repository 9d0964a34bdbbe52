//! Strict reader of a JSON object's fields, which quotes no value.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::values::invalid::InvalidValue;
use crate::values::text::storable;

/// Rule of a value that must be an object.
pub(super) const NO_OBJECT: &str = "must be an object";

/// Fields of an object that are not read yet.
///
/// serde's own errors quote the refused value, which could be a key in the wrong place.
pub(super) struct Fields {
    path: String,
    unread: Map<String, Value>,
}

impl Fields {
    pub(super) fn of(path: &str, json: Value) -> Result<Self, InvalidValue> {
        Ok(Self { path: path.to_owned(), unread: object(path, json)? })
    }

    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str, Value) -> Result<T, InvalidValue>,
    ) -> Result<Option<T>, InvalidValue> {
        self.unread.remove(name).map(|value| read(&self.path_of(name), value)).transpose()
    }

    pub(super) fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str, Value) -> Result<T, InvalidValue>,
    ) -> Result<T, InvalidValue> {
        self.optional(name, read)?.ok_or_else(|| refused(&self.path_of(name), "is missing"))
    }

    /// Reads a variant of an enum by its name; `rule` lists the names.
    pub(super) fn one_of<T: for<'de> Deserialize<'de>>(
        &mut self,
        name: &str,
        rule: &'static str,
    ) -> Result<T, InvalidValue> {
        self.required(name, |path, value| {
            serde_json::from_value(value).map_err(|_| refused(path, rule))
        })
    }

    /// Refuses fields that nothing has read.
    pub(super) fn finish(self) -> Result<(), InvalidValue> {
        match self.unread.keys().next() {
            Some(name) => Err(refused(&self.path_of(name), "is not a known field")),
            None => Ok(()),
        }
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }
}

pub(super) fn refused(path: &str, rule: &'static str) -> InvalidValue {
    InvalidValue::new(path.to_owned(), rule)
}

pub(super) fn object(path: &str, value: Value) -> Result<Map<String, Value>, InvalidValue> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(refused(path, NO_OBJECT)),
    }
}

pub(super) fn text(path: &str, value: Value) -> Result<String, InvalidValue> {
    match value {
        Value::String(text) => {
            storable(path, &text)?;
            Ok(text)
        }
        _ => Err(refused(path, "must be a text")),
    }
}

pub(super) fn non_empty_text(path: &str, value: Value) -> Result<String, InvalidValue> {
    let text = text(path, value)?;
    if text.is_empty() {
        return Err(refused(path, "must not be empty"));
    }
    Ok(text)
}

pub(super) fn texts(path: &str, value: Value) -> Result<Vec<String>, InvalidValue> {
    match value {
        Value::Array(items) => items.into_iter().map(|item| text(path, item)).collect(),
        _ => Err(refused(path, "must be a list of texts")),
    }
}

pub(super) fn boolean(path: &str, value: Value) -> Result<bool, InvalidValue> {
    value.as_bool().ok_or_else(|| refused(path, "must be true or false"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal<T>(read: Result<T, InvalidValue>) -> String {
        read.err().unwrap().to_string()
    }

    #[test]
    fn a_field_is_required_or_optional_and_never_unknown() {
        let mut fields = Fields::of("it", json!({"a": "text", "b": null})).unwrap();
        assert_eq!(fields.required("a", text).unwrap(), "text");
        assert_eq!(fields.optional("a", text), Ok(None));
        assert_eq!(refusal(fields.required("a", text)), "it.a is missing");
        assert_eq!(refusal(fields.finish()), "it.b is not a known field");
        assert_eq!(refusal(Fields::of("it", json!([]))), "it must be an object");
    }

    #[test]
    fn a_value_of_another_type_is_refused_unquoted() {
        let wrong = || json!([{"sk-secret": "sk-secret"}]);
        assert_eq!(refusal(text("it", wrong())), "it must be a text");
        assert_eq!(refusal(texts("it", json!("sk-secret"))), "it must be a list of texts");
        assert_eq!(refusal(texts("it", wrong())), "it must be a text");
        assert_eq!(refusal(boolean("it", wrong())), "it must be true or false");
        let mut fields = Fields::of("it", json!({"a": "sk-secret"})).unwrap();
        assert_eq!(refusal(fields.one_of::<bool>("a", "must be so")), "it.a must be so");
    }

    #[test]
    fn a_text_is_one_that_can_be_stored() {
        assert_eq!(refusal(non_empty_text("it", json!(""))), "it must not be empty");
        assert_eq!(refusal(text("it", json!("a\0"))), "it must not contain a NUL character");
        let error = refusal(text("it", json!("x".repeat(65_537))));
        assert_eq!(error, "it must be at most 65536 bytes long");
    }
}
