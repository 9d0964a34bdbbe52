//! Arbitrary JSON.

use arbitrary::{Arbitrary, Unstructured};
use serde_json::{Map, Value};

/// Key that stands in a wrong place; no error may quote it.
pub const SECRET: &str = "sk-secret";

/// Reads `data` as JSON text, else as a `T`.
pub fn read<'a, T: Arbitrary<'a> + Into<Value>>(data: &'a [u8]) -> Option<Value> {
    serde_json::from_slice(data)
        .ok()
        .or_else(|| Unstructured::new(data).arbitrary::<T>().ok().map(Into::into))
}

/// Any JSON value.
#[derive(Arbitrary)]
pub enum Json {
    Null,
    Bool(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    Secret,
    Array(Vec<Json>),
    Object(Fields),
}

/// Fields of an object.
#[derive(Arbitrary)]
pub struct Fields(Vec<(Name, Json)>);

/// Name of a field.
#[derive(Arbitrary)]
pub enum Name {
    Any(String),
    Ordinary(u8),
    Credential { of: u8, is_upper: bool, separator: Option<char>, at: u8 },
}

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(bool) => bool.into(),
            Json::Integer(number) => number.into(),
            Json::Unsigned(number) => number.into(),
            Json::Float(number) => number.into(),
            Json::Text(text) => text.into(),
            Json::Secret => SECRET.into(),
            Json::Array(items) => Self::Array(items.into_iter().map(Into::into).collect()),
            Json::Object(fields) => Map::from(fields).into(),
        }
    }
}

impl From<Fields> for Map<String, Value> {
    fn from(fields: Fields) -> Self {
        fields.0.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        const ORDINARY: [&str; 8] =
            ["messages", "role", "content", "system", "key", "max_tokens", "tools", "model"];
        const CREDENTIALS: [&str; 4] = ["api_key", "x-api-key", "authorization", "apikey"];
        match name {
            Name::Any(text) => text,
            Name::Ordinary(of) => ORDINARY[usize::from(of) % ORDINARY.len()].to_owned(),
            Name::Credential { of, is_upper, separator, at } => {
                let mut text = CREDENTIALS[usize::from(of) % CREDENTIALS.len()].to_owned();
                if is_upper {
                    text.make_ascii_uppercase();
                }
                if let Some(separator) = separator {
                    text.insert(usize::from(at) % text.len(), separator);
                }
                text
            }
        }
    }
}
