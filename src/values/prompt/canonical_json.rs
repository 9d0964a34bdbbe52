//! One text for one JSON value, whatever features a host's build turns on.
//!
//! Object keys are sorted by their UTF-8 bytes and there are no spaces. Strings escape only what JSON
//! demands. An integer that fits 64 bits is written in decimal; any other number is the nearest
//! double, in the shortest decimal digits that read back as it, never with an exponent and always
//! with a point. serde_json's own writer can't be used for objects and numbers: with
//! `preserve_order` it keeps the keys as they came, with `arbitrary_precision` the digits.

use serde_json::{Number, Value};
use std::cmp::Reverse;
use std::slice;

use crate::values::prompt::captured_text::CapturedTextWriter;

/// How much of a string is written at once, for the writer to hash it meanwhile.
const PIECE: usize = 512;

/// How many bytes are looked at together: as many as a compiler can compare in a few instructions.
const CHUNK: usize = 64;

/// `value` as canonical JSON, without the item `omitted` of an array: all of it when that is at most `cap`
/// bytes, else a beginning of more than `cap` bytes, and little more.
pub(super) fn canonical_json(
    value: &Value,
    omitted: Option<&Value>,
    cap: usize,
) -> CapturedTextWriter {
    let out = CapturedTextWriter::new(cap, expected_length(value, omitted, cap));
    let mut json = CanonicalJson { out, open: Vec::new(), fields: Vec::new(), cap };
    json.write(value, omitted);
    json.out
}

/// About how long `value` becomes when an eighth of its strings is to be escaped at most, so that room is made once.
/// What is beyond `cap` isn't looked at.
fn expected_length(value: &Value, omitted: Option<&Value>, cap: usize) -> usize {
    let mut left = vec![value];
    let mut length = 0;
    while length <= cap
        && let Some(value) = left.pop()
    {
        if omitted.is_some_and(|omitted| std::ptr::eq(omitted, value)) {
            continue;
        }
        length += match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 8,
            Value::String(string) => 3 + string.len() + string.len() / 8,
            Value::Array(items) => {
                left.extend(items);
                3
            }
            Value::Object(fields) => {
                left.extend(fields.values());
                3 + fields.keys().map(|name| name.len() + 3).sum::<usize>()
            }
        };
    }
    length
}

struct CanonicalJson<'v> {
    out: CapturedTextWriter,
    open: Vec<Open<'v>>,
    /// What is left to write of all open objects: the innermost one's last, and its first field at the end.
    fields: Vec<(&'v String, &'v Value)>,
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
    /// The fields from this one on.
    Fields(usize),
}

impl<'v> CanonicalJson<'v> {
    /// Not recursive, so that no depth of nesting exhausts the stack.
    fn write(&mut self, value: &'v Value, omitted: Option<&Value>) {
        self.begin(value);
        while !self.out.is_full()
            && let Some(innermost) = self.open.last_mut()
        {
            let (next, end) = match &mut innermost.left {
                Left::Items(items) => (items.next().map(|value| (None, value)), "]"),
                Left::Fields(first) => {
                    let is_left = self.fields.len() > *first;
                    let field = is_left.then(|| self.fields.pop()).flatten();
                    (field.map(|(name, value)| (Some(name), value)), "}")
                }
            };
            let Some((name, value)) = next else {
                self.out.push_str(end);
                self.open.pop();
                continue;
            };
            if omitted.is_some_and(|omitted| std::ptr::eq(omitted, value)) {
                continue;
            }
            if !innermost.is_empty {
                self.out.push(',');
            }
            innermost.is_empty = false;
            if let Some(name) = name {
                self.string(name);
                self.out.push(':');
            }
            self.begin(value);
        }
    }

    /// Writes all of `value`, or where it begins.
    fn begin(&mut self, value: &'v Value) {
        let (start, left) = match value {
            Value::Null => return self.out.push_str("null"),
            Value::Bool(true) => return self.out.push_str("true"),
            Value::Bool(false) => return self.out.push_str("false"),
            Value::Number(number) => return self.number(number),
            Value::String(string) => return self.string(string),
            Value::Array(items) => ("[", Left::Items(items.iter())),
            Value::Object(fields) => {
                let first = self.fields.len();
                self.fields.extend(fields);
                self.fields[first..].sort_unstable_by_key(|(name, _)| Reverse(*name));
                ("{", Left::Fields(first))
            }
        };
        self.out.push_str(start);
        self.open.push(Open { left, is_empty: true });
    }

    fn number(&mut self, number: &Number) {
        use std::fmt::Write;
        let negative_zero = || number.as_f64().is_some_and(|n| n == 0.0 && n.is_sign_negative());
        // Writing to memory can't fail.
        let _ = match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(0), ..) if negative_zero() => write!(self.out, "-0.0"),
            (Some(integer), ..) => write!(self.out, "{integer}"),
            (_, Some(integer), _) => write!(self.out, "{integer}"),
            (_, _, Some(double)) if double.fract() == 0.0 => write!(self.out, "{double}.0"),
            (_, _, Some(double)) => write!(self.out, "{double}"),
            // Beyond a double's range: only with `arbitrary_precision` is there such a number.
            (None, None, None) => write!(self.out, "{number}"),
        };
    }

    fn string(&mut self, string: &str) {
        // More than the cap is never kept, and no escape is shorter than what it stands for.
        let mut rest = &string[..string.floor_char_boundary(self.cap.saturating_add(4))];
        self.out.push_str("\"");
        while !rest.is_empty() && !self.out.is_full() {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
            self.escaped(piece);
            self.out.hash_written();
            rest = after;
        }
        self.out.push_str("\"");
    }

    fn escaped(&mut self, mut text: &str) {
        loop {
            let (clean, rest) = text.split_at(clean_length(text.as_bytes()));
            self.out.push_str(clean);
            let Some(&byte) = rest.as_bytes().first() else { return };
            self.escape(byte);
            text = &rest[1..];
        }
    }

    fn escape(&mut self, byte: u8) {
        use std::fmt::Write;
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x09 => b't',
            0x0a => b'n',
            0x0c => b'f',
            0x0d => b'r',
            control => {
                // Writing to memory can't fail.
                let _ = write!(self.out, "\\u{control:04x}");
                return;
            }
        };
        self.out.push('\\');
        self.out.push(char::from(short));
    }
}

fn is_to_be_escaped(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// How many bytes come before the first one that is to be escaped.
fn clean_length(bytes: &[u8]) -> usize {
    // Without a way out of the middle of a chunk, the compiler looks at many bytes at once.
    let is_clean = |chunk: &&[u8; CHUNK]| {
        !chunk.iter().fold(false, |found, &byte| found | is_to_be_escaped(byte))
    };
    let (chunks, _) = bytes.as_chunks();
    let clean = CHUNK * chunks.iter().take_while(is_clean).count();
    let rest = &bytes[clean..];
    clean + first_to_be_escaped(rest).unwrap_or(rest.len())
}

/// The first byte that is to be escaped, found by arithmetic on eight at once.
fn first_to_be_escaped(bytes: &[u8]) -> Option<usize> {
    const EACH: u64 = u64::MAX / 0xff;
    // Sets the highest bit of the first byte below `bound`, and of none before it, if all are ASCII.
    let below = |word: u64, bound: u8| word.wrapping_sub(EACH * u64::from(bound));
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // `^ 2` swaps `"` with the space, next to the control characters.
        let found = below(word ^ (EACH * 2), 0x21) | below(word ^ (EACH * u64::from(b'\\')), 1);
        let found = found & !word & (EACH * 0x80);
        if found != 0 {
            return Some(8 * index + found.trailing_zeros() as usize / 8);
        }
    }
    let found = rest.iter().position(|&byte| is_to_be_escaped(byte))?;
    Some(8 * words.len() + found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::nesting::dismantle;
    use crate::values::nesting::tests::deep;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::{Map, json};
    use std::collections::BTreeMap;

    use crate::values::prompt::sha256::Sha256Digest;

    fn canonical_json(value: &Value, omitted: Option<&Value>, cap: usize) -> String {
        super::canonical_json(value, omitted, cap).written().to_owned()
    }

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

    #[test]
    fn escapes_wherever_it_stands() {
        for length in [1, 7, 8, 9, 63, 64, 65, PIECE, PIECE + CHUNK] {
            for at in 0..length {
                for (found, escape) in [("\"", "\\\""), ("\\", "\\\\"), ("\u{1f}", "\\u001f")] {
                    let (before, after) = ("!".repeat(at), "\u{80}".repeat(length - at));
                    let text = format!("{before}{found}{after}");
                    assert_eq!(canonical(&json!(text)), format!("\"{before}{escape}{after}\""));
                }
            }
        }
    }

    /// The same, in the plainest way.
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

    /// Text with much to escape, of which a part is longer than what is written at once.
    fn text() -> impl Strategy<Value = String> {
        let dense = "[a\"\\\\\\x00-\\x1fé語🦀]{0,20}";
        (dense, prop_oneof![3 => Just(0), 1 => 0..2 * PIECE], "[b-z \n🦀]{0,9}", dense)
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
            let captured = super::canonical_json(&value, None, cap).finish();
            prop_assert_eq!(captured.text(), kept);
            prop_assert_eq!(captured.is_truncated(), kept.len() < whole.len());
            prop_assert_eq!(captured.sha256(), Sha256Digest::of(kept));
        }
    }
}
