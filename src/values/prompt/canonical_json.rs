//! Canonical JSON: one text for one value, whatever features a host's build enables.
//!
//! - Object keys are sorted by their UTF-8 bytes, and there are no spaces.
//! - Strings have serde_json's escapes: only those that JSON demands.
//! - An integer that fits 64 bits is written in decimal, and never rounded.
//! - Any other number is the nearest double, in the shortest digits that read back as it, with a
//!   point and without an exponent; `-0` is `-0.0`.
//!
//! RFC 8785 differs: it sorts keys by UTF-16 code units and writes every number as a double.
//! serde_json's writer serves for strings alone: `preserve_order` changes its order of keys, and
//! `arbitrary_precision` its numbers.

use serde_json::{Number, Value};
use std::io::{self, Write};
use std::ptr;

use crate::values::prompt::capped_text::CappedText;
use crate::values::prompt::captured_text::CapturedText;
use crate::values::prompt::failure::CaptureFailure;

/// Limit of nested arrays and objects, and so of the recursion here.
pub(super) const MAX_DEPTH: usize = 128;

/// The first `cap` bytes of `value` as canonical JSON, without the array item `omitted`.
pub(super) fn canonical_json(
    value: &Value,
    omitted: Option<&Value>,
    cap: usize,
) -> Result<CapturedText<'static>, CaptureFailure> {
    let expected = expected_length(value, omitted, MAX_DEPTH).ok_or(CaptureFailure::TooDeep)?;
    let mut out = CappedText::new(cap, expected);
    // Writing fails only at the cap.
    let is_truncated = write(&mut out, value, omitted).is_err();
    Ok(CapturedText::new(out.into_text(), is_truncated))
}

/// Estimated length of `value` as JSON, with room for escapes; `None` beyond `levels` levels.
///
/// Allocated at once, as growing would take twice the memory.
fn expected_length(value: &Value, omitted: Option<&Value>, levels: usize) -> Option<usize> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(8),
        Value::String(string) => Some(3 + string.len() + string.len() / 8),
        Value::Array(items) => {
            let levels = levels.checked_sub(1)?;
            items.iter().try_fold(3, |sum, item| {
                let length = expected_length(item, omitted, levels)?;
                Some(if is_omitted(item, omitted) { sum } else { sum + length })
            })
        }
        Value::Object(fields) => {
            let levels = levels.checked_sub(1)?;
            fields.iter().try_fold(3, |sum, (name, value)| {
                Some(sum + name.len() + 3 + expected_length(value, omitted, levels)?)
            })
        }
    }
}

fn is_omitted(item: &Value, omitted: Option<&Value>) -> bool {
    omitted.is_some_and(|omitted| ptr::eq(omitted, item))
}

fn write(out: &mut CappedText, value: &Value, omitted: Option<&Value>) -> io::Result<()> {
    match value {
        Value::Null => out.write_all(b"null"),
        Value::Bool(bool) => write!(out, "{bool}"),
        Value::Number(number) => write_number(out, number),
        Value::String(string) => write_string(out, string),
        Value::Array(items) => {
            out.write_all(b"[")?;
            let items = items.iter().filter(|item| !is_omitted(item, omitted));
            for (at, item) in items.enumerate() {
                write_comma(out, at)?;
                write(out, item, omitted)?;
            }
            out.write_all(b"]")
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            out.write_all(b"{")?;
            for (at, (name, value)) in fields.into_iter().enumerate() {
                write_comma(out, at)?;
                write_string(out, name)?;
                out.write_all(b":")?;
                write(out, value, omitted)?;
            }
            out.write_all(b"}")
        }
    }
}

fn write_comma(out: &mut CappedText, at: usize) -> io::Result<()> {
    if at == 0 { Ok(()) } else { out.write_all(b",") }
}

fn write_number(out: &mut CappedText, number: &Number) -> io::Result<()> {
    let double = number.as_f64();
    let is_negative_zero = double.is_some_and(|double| double == 0.0 && double.is_sign_negative());
    match (number.as_i64(), number.as_u64(), double) {
        (Some(integer), ..) if !is_negative_zero => write!(out, "{integer}"),
        (_, Some(integer), _) if !is_negative_zero => write!(out, "{integer}"),
        (_, _, Some(double)) if double.fract() == 0.0 => write!(out, "{double}.0"),
        (_, _, Some(double)) => write!(out, "{double}"),
        // Beyond a double's range, which only `arbitrary_precision` allows.
        (.., None) => write!(out, "{number}"),
    }
}

fn write_string(out: &mut CappedText, string: &str) -> io::Result<()> {
    // A part just longer than the room, as serde_json would scan all of a long string.
    let beyond_cap = string.floor_char_boundary(out.room().saturating_add(4));
    Ok(serde_json::to_writer(out, &string[..beyond_cap])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::prompt::sha256::Sha256Digest;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::{Map, json};
    use std::collections::BTreeMap;

    const NO_CAP: usize = usize::MAX;

    fn canonical(value: &Value) -> String {
        canonical_json(value, None, NO_CAP).unwrap().text().to_owned()
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
    fn writes_a_number_in_one_way() {
        for (number, expected) in [
            ("0", "0"),
            ("-0", "-0.0"),
            ("-0.0", "-0.0"),
            ("-7", "-7"),
            ("9007199254740993", "9007199254740993"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("18446744073709551616", "18446744073709552000.0"),
            ("1.0", "1.0"),
            ("1e2", "100.0"),
            ("0.70", "0.7"),
            ("1e-7", "0.0000001"),
            // serde_json's parser reads the neighbouring double without `float_roundtrip`.
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
    fn leaves_out_one_item_wherever_it_stands() {
        let value = json!({"a": [1, [2], 1], "b": [[2]]});
        for (omitted, expected) in [
            (&value["a"][0], r#"{"a":[[2],1],"b":[[2]]}"#),
            (&value["a"][1], r#"{"a":[1,1],"b":[[2]]}"#),
            (&value["a"][2], r#"{"a":[1,[2]],"b":[[2]]}"#),
            (&value["b"][0], r#"{"a":[1,[2],1],"b":[]}"#),
        ] {
            let captured = canonical_json(&value, Some(omitted), NO_CAP).unwrap();
            assert_eq!(captured.text(), expected);
        }
    }

    #[test]
    fn sorts_keys_by_bytes_and_not_by_utf_16() {
        assert_eq!(
            canonical(&json!({"\u{10000}": 1, "\u{ffff}": 2})),
            "{\"\u{ffff}\":2,\"\u{10000}\":1}"
        );
    }

    #[test]
    fn is_cut_at_a_character_boundary_up_to_the_cap() {
        for value in [
            json!({"a": [1, "b", [], {}], "c": {"d": null, "long key": "long text"}}),
            json!("語\n🦀é\"語語"),
        ] {
            let whole = canonical(&value);
            for cap in 0..=whole.len() {
                let captured = canonical_json(&value, None, cap).unwrap();
                assert_eq!(captured.text(), &whole[..whole.floor_char_boundary(cap)]);
                assert_eq!(captured.is_truncated(), cap < whole.len(), "{cap}");
            }
        }
    }

    #[test]
    fn refuses_more_than_128_levels() {
        let nested = |levels: usize| {
            (1..levels).fold(json!([]), |inner, level| match level % 2 {
                0 => json!([0, inner]),
                _ => json!({"a": inner}),
            })
        };
        assert!(canonical_json(&nested(128), None, NO_CAP).is_ok());
        // The cap and what is left out make no difference.
        let too_deep = json!([nested(128)]);
        for omitted in [None, too_deep.get(0)] {
            let failure = canonical_json(&too_deep, omitted, 10).unwrap_err();
            assert_eq!(failure, CaptureFailure::TooDeep);
        }
    }

    /// Canonical JSON, written in the plainest way.
    fn plain(value: &Value) -> String {
        let joined = |texts: Vec<String>| texts.join(",");
        match value {
            Value::Null => "null".to_owned(),
            Value::Bool(bool) => bool.to_string(),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => integer.to_string(),
                None => format!("{:?}", number.as_f64().unwrap()),
            },
            Value::String(string) => {
                let escaped = string.chars().map(|character| match character {
                    '"' | '\\' => format!("\\{character}"),
                    '\u{8}' => "\\b".to_owned(),
                    '\u{c}' => "\\f".to_owned(),
                    '\n' | '\r' | '\t' => character.escape_default().to_string(),
                    '\0'..='\u{1f}' => format!("\\u{:04x}", u32::from(character)),
                    _ => character.to_string(),
                });
                format!("\"{}\"", escaped.collect::<String>())
            }
            Value::Array(items) => format!("[{}]", joined(items.iter().map(plain).collect())),
            Value::Object(fields) => {
                let sorted: BTreeMap<_, _> = fields.iter().collect();
                let field = |(name, value)| format!("{}:{}", plain(&json!(name)), plain(value));
                format!("{{{}}}", joined(sorted.into_iter().map(field).collect()))
            }
        }
    }

    /// Text with much to escape.
    fn text() -> impl Strategy<Value = String> {
        let dense = "[a\"\\\\\\x00-\\x1fé語🦀]{0,20}";
        (dense, 0..200_usize, "[b-z \n🦀]{0,9}", dense)
            .prop_map(|(start, filler, end, rest)| start + &"x".repeat(filler) + &end + &rest)
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9).prop_map(Value::from),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..8).prop_map(Value::from),
                vec((text(), inner), 0..8).prop_map(|fields| Value::from(Map::from_iter(fields))),
            ]
        })
    }

    proptest! {
        #[test]
        fn is_what_the_plainest_writer_keeps(value in json(), share in 0.0..1.2) {
            let whole = plain(&value);
            let cap = (whole.len() as f64 * share) as usize;
            let kept = &whole[..whole.floor_char_boundary(cap)];
            let captured = canonical_json(&value, None, cap).unwrap();
            prop_assert_eq!(captured.text(), kept);
            prop_assert_eq!(captured.is_truncated(), kept.len() < whole.len());
            prop_assert_eq!(captured.sha256(), Sha256Digest::of(kept));
        }
    }
}
