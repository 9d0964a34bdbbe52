//! Limits of an upstream's size and nesting.

use serde_json::{Map, Value};

use crate::values::invalid::InvalidValue;
use crate::values::upstream::fields::{NO_OBJECT, refused};

pub(super) const MAX_DEPTH: usize = 64;
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Refuses JSON that is too long or too deep, before anything of it is copied.
///
/// Recurses for at most [`MAX_DEPTH`] levels, and stops at [`MAX_BYTES`].
pub(super) fn check_limits(json: &Value) -> Result<(), InvalidValue> {
    let fields = json.as_object().ok_or_else(|| refused("upstream", NO_OBJECT))?;
    let mut size = Size::default();
    // Before a field's name is quoted.
    size.add(length_of_names(fields))?;
    fields.iter().try_for_each(|(name, value)| size.add_value(name, value, MAX_DEPTH))
}

#[derive(Default)]
struct Size {
    bytes: usize,
}

impl Size {
    fn add(&mut self, bytes: usize) -> Result<(), InvalidValue> {
        self.bytes += bytes;
        if self.bytes > MAX_BYTES {
            return Err(refused("upstream", "must be at most 1 MiB long"));
        }
        Ok(())
    }

    /// Adds `value`, which stands in `field` of the upstream and may have `levels` levels.
    fn add_value(&mut self, field: &str, value: &Value, levels: usize) -> Result<(), InvalidValue> {
        let below = || {
            levels.checked_sub(1).ok_or_else(|| {
                refused(&format!("upstream.{field}"), "must be nested at most 64 levels deep")
            })
        };
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
            Value::String(text) => self.add(text.len()),
            Value::Array(items) => {
                self.add(items.len())?;
                let levels = below()?;
                items.iter().try_for_each(|item| self.add_value(field, item, levels))
            }
            Value::Object(fields) => {
                self.add(length_of_names(fields))?;
                let levels = below()?;
                fields.values().try_for_each(|value| self.add_value(field, value, levels))
            }
        }
    }
}

/// Length of the names, and one byte for each value.
fn length_of_names(fields: &Map<String, Value>) -> usize {
    fields.keys().map(|name| name.len() + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(json: &Value) -> String {
        check_limits(json).unwrap_err().to_string()
    }

    #[test]
    fn nesting_is_limited() {
        for around in [|inner| json!({"a": inner}), |inner| json!([inner])] {
            let nested = |levels| (1..levels).fold(json!({}), |inner, _| around(inner));
            assert_eq!(check_limits(&json!({"b": nested(64)})), Ok(()));
            let error = refusal(&json!({"b": nested(65)}));
            assert_eq!(error, "upstream.b must be nested at most 64 levels deep");
        }
    }

    #[test]
    fn no_depth_exhausts_the_stack() {
        let deep = (0..100_000).fold(json!({}), |inner, _| Value::Array(vec![inner]));
        let json = Value::Object(Map::from_iter([("b".to_owned(), deep)]));
        assert_eq!(refusal(&json), "upstream.b must be nested at most 64 levels deep");
        // Dropping it would recurse.
        std::mem::forget(json);
    }

    #[test]
    fn length_is_limited() {
        let text = |bytes: usize| json!({"a": "é".repeat(bytes / 2) + &"x".repeat(bytes % 2)});
        // The name and the value count two.
        let most = MAX_BYTES - 2;
        assert_eq!(check_limits(&text(most)), Ok(()));
        let longer = [
            text(most + 1),
            json!({"a": vec![0; most + 1]}),
            json!({"x".repeat(MAX_BYTES): 0}),
            json!({"a": {"x".repeat(most): 0}}),
        ];
        for json in longer {
            assert_eq!(refusal(&json), "upstream must be at most 1 MiB long");
        }
    }
}
