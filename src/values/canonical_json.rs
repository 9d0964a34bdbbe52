//! One text for one JSON value, whatever features a host's build turns on.
//!
//! Object keys are sorted by their UTF-8 bytes and there are no spaces. Strings escape only what JSON
//! demands. An integer that fits 64 bits is written in decimal; any other number is the nearest
//! double, in the shortest decimal digits that read back as it, never with an exponent and always
//! with a point. serde_json's own writer can't be used for objects and numbers: with
//! `preserve_order` it keeps the keys as they came, with `arbitrary_precision` the digits.

use serde_json::{Number, Value};
use std::{slice, vec};

/// `value` as canonical JSON, without the item `omitted` of an array: all of it when that is at most `cap`
/// bytes, else a beginning of more than `cap` bytes, and little more.
pub(super) fn canonical_json(value: &Value, omitted: Option<&Value>, cap: usize) -> String {
    let mut json = CanonicalJson { text: String::new(), open: Vec::new(), cap };
    json.write(value, omitted);
    json.text
}

struct CanonicalJson<'v> {
    text: String,
    open: Vec<Open<'v>>,
    cap: usize,
}

/// An array or object that is being written.
struct Open<'v> {
    left: Left<'v>,
    is_empty: bool,
}

/// What of it is left to write.
enum Left<'v> {
    Items(slice::Iter<'v, Value>),
    Fields(vec::IntoIter<(&'v String, &'v Value)>),
}

impl<'v> Open<'v> {
    fn next(&mut self) -> Option<(Option<&'v str>, &'v Value)> {
        match &mut self.left {
            Left::Items(items) => items.next().map(|value| (None, value)),
            Left::Fields(fields) => fields.next().map(|(name, value)| (Some(name.as_str()), value)),
        }
    }

    fn end(&self) -> char {
        match self.left {
            Left::Items(_) => ']',
            Left::Fields(_) => '}',
        }
    }
}

impl<'v> CanonicalJson<'v> {
    fn is_full(&self) -> bool {
        self.text.len() > self.cap
    }

    /// Not recursive, so that no depth of nesting exhausts the stack.
    fn write(&mut self, value: &'v Value, omitted: Option<&Value>) {
        self.begin(value);
        while !self.is_full()
            && let Some(innermost) = self.open.last_mut()
        {
            let Some((name, value)) = innermost.next() else {
                self.text.push(innermost.end());
                self.open.pop();
                continue;
            };
            if omitted.is_some_and(|omitted| std::ptr::eq(omitted, value)) {
                continue;
            }
            if !innermost.is_empty {
                self.text.push(',');
            }
            innermost.is_empty = false;
            if let Some(name) = name {
                self.string(name);
                self.text.push(':');
            }
            self.begin(value);
        }
    }

    /// Writes all of `value`, or where it begins.
    fn begin(&mut self, value: &'v Value) {
        let (start, left) = match value {
            Value::Null => return self.text.push_str("null"),
            Value::Bool(true) => return self.text.push_str("true"),
            Value::Bool(false) => return self.text.push_str("false"),
            Value::Number(number) => return self.number(number),
            Value::String(string) => return self.string(string),
            Value::Array(items) => ('[', Left::Items(items.iter())),
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_unstable_by_key(|(name, _)| *name);
                ('{', Left::Fields(fields.into_iter()))
            }
        };
        self.text.push(start);
        self.open.push(Open { left, is_empty: true });
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
    use crate::values::nesting::{dismantle, tests::deep};
    use serde_json::json;

    fn canonical(value: &Value) -> String {
        canonical_json(value, None, 1 << 20)
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
        let text = canonical_json(&long, None, 10);
        assert!(text.len() > 10 && text.len() < 40, "{text}");
        assert!(canonical(&long).starts_with(&text[..11]));
    }

    #[test]
    fn exceeds_the_cap_exactly_when_the_whole_text_does() {
        for value in [
            json!({"a": [1, "b", [], {}], "c": {"d": null, "long key": "long text"}}),
            json!("語\n🦀é\"語語"),
        ] {
            let whole = canonical(&value);
            for cap in 0..=whole.len() {
                let text = canonical_json(&value, None, cap);
                if cap < whole.len() {
                    assert!(text.len() > cap, "{cap}: {text}");
                    assert_eq!(text.as_bytes()[..=cap], whole.as_bytes()[..=cap], "{cap}: {text}");
                } else {
                    assert_eq!(text, whole);
                }
            }
        }
    }

    #[test]
    fn leaves_out_one_item_wherever_it_stands() {
        let value = json!({"a": [1, [2], 1], "b": [[2]]});
        for (omitted, expected) in [
            (&value["a"][0], r#"{"a":[[2],1],"b":[[2]]}"#),
            (&value["a"][1], r#"{"a":[1,1],"b":[[2]]}"#),
            (&value["a"][2], r#"{"a":[1,[2]],"b":[[2]]}"#),
            (&value["b"][0], r#"{"a":[1,[2],1],"b":[]}"#),
        ] {
            assert_eq!(canonical_json(&value, Some(omitted), 1 << 20), expected);
        }
    }

    #[test]
    fn no_depth_exhausts_the_stack() {
        let value = deep();
        let text = canonical(&value);
        assert!(text.starts_with(r#"{"a":[0,{"a":[0,"#) && text.ends_with("]}]}"), "{text:.40}");
        assert_eq!(text.matches("[0,").count(), 50_000);
        assert!(text.contains(r#"[0,"sk-secret"]"#));
        dismantle(value);
    }
}
