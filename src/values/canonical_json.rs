//! One text for one JSON value, whatever features a host's build turns on.
//!
//! Object keys are sorted by their UTF-8 bytes and there are no spaces. Strings escape only what JSON
//! demands. An integer that fits 64 bits is written in decimal; any other number is the nearest
//! double, in the shortest decimal digits that read back as it, never with an exponent and always
//! with a point. serde_json's own writer can't be used for objects and numbers: with
//! `preserve_order` it keeps the keys as they came, with `arbitrary_precision` the digits.

use serde_json::{Number, Value};

/// Writes JSON into a string that stops growing a little past `cap` bytes.
pub(super) struct CanonicalJson {
    text: String,
    cap: usize,
}

impl CanonicalJson {
    pub(super) fn new(cap: usize) -> Self {
        Self { text: String::new(), cap }
    }

    /// What was written: all of it when it is at most `cap` bytes, else at least `cap` bytes of it.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn is_full(&self) -> bool {
        self.text.len() > self.cap
    }

    /// Writes `value` after what was written before.
    pub(super) fn value(&mut self, value: &Value) {
        match value {
            _ if self.is_full() => {}
            Value::Null => self.text.push_str("null"),
            Value::Bool(true) => self.text.push_str("true"),
            Value::Bool(false) => self.text.push_str("false"),
            Value::Number(number) => self.number(number),
            Value::String(string) => self.string(string),
            Value::Array(items) => self.array(items),
            Value::Object(fields) => {
                self.object(fields.iter(), |json, _, value| json.value(value));
            }
        }
    }

    /// Writes the items as an array.
    pub(super) fn array<'v>(&mut self, items: impl IntoIterator<Item = &'v Value>) {
        self.text.push('[');
        for (index, item) in items.into_iter().enumerate() {
            if self.is_full() {
                return;
            }
            if index > 0 {
                self.text.push(',');
            }
            self.value(item);
        }
        self.text.push(']');
    }

    /// Writes the fields as an object, in the order of their keys; `write` writes a field's value.
    pub(super) fn object<'v>(
        &mut self,
        fields: impl Iterator<Item = (&'v String, &'v Value)>,
        mut write: impl FnMut(&mut Self, &str, &Value),
    ) {
        let mut fields: Vec<_> = fields.collect();
        fields.sort_unstable_by_key(|(key, _)| *key);
        self.text.push('{');
        for (index, (key, value)) in fields.into_iter().enumerate() {
            if self.is_full() {
                return;
            }
            if index > 0 {
                self.text.push(',');
            }
            self.string(key);
            self.text.push(':');
            write(self, key, value);
        }
        self.text.push('}');
    }

    fn number(&mut self, number: &Number) {
        use std::fmt::Write;
        let negative_zero = || number.as_f64().is_some_and(|n| n == 0.0 && n.is_sign_negative());
        // Writing to a string can't fail.
        let _ = match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(0), ..) if negative_zero() => write!(self.text, "-0.0"),
            (Some(integer), ..) => write!(self.text, "{integer}"),
            (_, Some(integer), _) => write!(self.text, "{integer}"),
            (_, _, Some(double)) if double.fract() == 0.0 => write!(self.text, "{double}.0"),
            (_, _, Some(double)) => write!(self.text, "{double}"),
            // Beyond a double's range: only with `arbitrary_precision` is there such a number.
            (None, None, None) => write!(self.text, "{number}"),
        };
    }

    fn string(&mut self, string: &str) {
        // More than the cap is never kept, and no escape is shorter than what it stands for.
        let string = &string[..string.floor_char_boundary(self.cap.saturating_add(4))];
        self.text.push('"');
        let mut clean = 0;
        for (index, byte) in string.bytes().enumerate() {
            let escape = match byte {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                0x08 => "\\b",
                0x09 => "\\t",
                0x0a => "\\n",
                0x0c => "\\f",
                0x0d => "\\r",
                0x00..=0x1f => "",
                _ => continue,
            };
            self.text.push_str(&string[clean..index]);
            if escape.is_empty() {
                self.text.push_str("\\u00");
                self.text.push(char::from(b'0' + (byte >> 4)));
                self.text.push(char::from(b"0123456789abcdef"[usize::from(byte & 0xf)]));
            } else {
                self.text.push_str(escape);
            }
            clean = index + 1;
        }
        self.text.push_str(&string[clean..]);
        self.text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn canonical(value: &Value) -> String {
        let mut json = CanonicalJson::new(1 << 20);
        json.value(value);
        json.into_text()
    }

    fn canonical_text(text: &str) -> String {
        canonical(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn sorts_keys_and_leaves_no_spaces() {
        let text = r#"{ "b": [1, true, null], "a": {"é": "x", "z": false}, "B": {}, "": [] }"#;
        assert_eq!(
            canonical_text(text),
            r#"{"":[],"B":{},"a":{"z":false,"é":"x"},"b":[1,true,null]}"#
        );
    }

    #[test]
    fn writes_numbers_in_one_way() {
        for (number, expected) in [
            ("0", "0"),
            ("-0", "-0.0"),
            ("-0.0", "-0.0"),
            ("-7", "-7"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("18446744073709551616", "18446744073709552000.0"),
            ("1.0", "1.0"),
            ("1e2", "100.0"),
            ("0.70", "0.7"),
            ("1e-7", "0.0000001"),
            // Of these, a parser that isn't exact gives the double beside.
            ("31.245270191439438", "31.245270191439438"),
            ("121.48791951161945", "121.48791951161945"),
            ("1E21", "1000000000000000000000.0"),
            ("5e-324", &format!("0.{}5", "0".repeat(323))),
        ] {
            assert_eq!(canonical_text(number), expected, "{number}");
        }
    }

    #[test]
    fn escapes_what_json_demands() {
        let every_control: String = (0..0x20u8).map(char::from).collect();
        assert_eq!(
            canonical(&json!(every_control)),
            concat!(
                r#""\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e\u000f"#,
                r#"\u0010\u0011\u0012\u0013\u0014\u0015\u0016\u0017\u0018\u0019\u001a\u001b\u001c"#,
                r#"\u001d\u001e\u001f""#
            )
        );
        assert_eq!(canonical(&json!("\"\\/\u{7f}é\u{2028}🦀")), "\"\\\"\\\\/\u{7f}é\u{2028}🦀\"");
    }

    #[test]
    fn stops_soon_after_the_cap() {
        let long = json!({"a": "x".repeat(1000), "b": vec!["y".repeat(1000); 1000]});
        let mut json = CanonicalJson::new(10);
        json.value(&long);
        let text = json.into_text();
        assert!(text.len() > 10 && text.len() < 40, "{text}");
        assert!(canonical(&long).starts_with(&text[..11]));
    }
}
