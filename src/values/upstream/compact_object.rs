//! JSON object kept as text.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// JSON object as its text, which takes a fraction of the memory of parsed values.
///
/// A cache holds thousands of upstreams, most of which are rarely called. Not serde_json's
/// `RawValue`: its feature makes every parser in the build read an object of the one key
/// `$serde_json::private::RawValue` as something else, in bodies of clients too.
#[derive(Debug, Clone)]
pub(super) struct CompactObject(Box<str>);

impl CompactObject {
    pub(super) fn to_map(&self) -> Map<String, Value> {
        match serde_json::from_str(&self.0) {
            Ok(map) => map,
            Err(error) => unreachable!("serde_json wrote the text: {error}"),
        }
    }
}

impl From<Map<String, Value>> for CompactObject {
    fn from(map: Map<String, Value>) -> Self {
        Self(Value::Object(map).to_string().into())
    }
}

/// Compares by content: the order of the fields depends on where the object came from.
impl PartialEq for CompactObject {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.to_map() == other.to_map()
    }
}

impl Serialize for CompactObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_map().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compact(json: Value) -> CompactObject {
        match json {
            Value::Object(map) => map.into(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn is_read_as_what_it_was_made_of() {
        let json =
            json!({"a": [1, -0.1, 1e300, u64::MAX], "b": {"": null, "\u{0}\"": "é☃"}, "c": true});
        let object = compact(json.clone());
        assert_eq!(Value::Object(object.to_map()), json);
        assert_eq!(serde_json::to_value(&object).unwrap(), json);
    }

    #[test]
    fn equals_another_of_the_same_content() {
        let object = compact(json!({"a": 1, "b": [2]}));
        assert_eq!(object, CompactObject(r#"{ "b": [2], "a": 1 }"#.into()));
        assert_ne!(object, compact(json!({"a": 1, "b": [3]})));
    }
}
