//! JSON that may be nested deeper than the stack is.

use serde_json::Value;

/// Drops `json` value by value: dropping it as a whole takes a stack frame for each level of it.
pub(super) fn dismantle(json: Value) {
    let mut left = vec![json];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(fields) => left.extend(fields.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Arrays and objects in turn, nested deep enough to exhaust any stack.
    pub(in super::super) fn deep() -> Value {
        (0..100_000).fold(Value::from("sk-secret"), |inner, level| match level % 2 {
            0 => Value::Array(vec![0.into(), inner]),
            _ => Value::Object([("a".to_owned(), inner)].into_iter().collect()),
        })
    }

    #[test]
    fn no_depth_exhausts_the_stack() {
        dismantle(deep());
    }
}
