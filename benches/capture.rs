//! Cost of capturing a prompt, beside the SHA-256 of the captured text.
//!
//! ```text
//! cargo bench --bench capture
//! ```
//!
//! `docs/benchmarks.md` has results.

#[path = "comparison/mod.rs"]
mod comparison;

use model_experiments::values::{CAPTURE_CAP, PromptCapture};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::hint::black_box;

use comparison::Comparison;

/// Prose and code as clients send them: this crate's own, and a little that isn't English.
const TEXTS: [&str; 6] = [
    include_str!("../README.md"),
    include_str!("../docs/testing.md"),
    include_str!("../docs/benchmarks.md"),
    include_str!("../src/recording/record.rs"),
    include_str!("../src/schema.rs"),
    "Der Himmel ist blau, weil die Luft kurze Wellen stärker streut: „Rayleigh-Streuung“ heißt das.\n\
     空が青いのは、短い波長の光ほど大気中で強く散乱されるからである。\n",
];

fn main() {
    let over = CAPTURE_CAP + CAPTURE_CAP / 8;
    let under = CAPTURE_CAP - CAPTURE_CAP / 32;
    let mut comparison = Comparison::new();
    for (name, body, is_truncated) in [
        ("system_prompt", system_prompt(under), false),
        ("one_text", body(vec!["x".repeat(under)]), false),
        ("one_text_cut", body(vec!["x".repeat(over)]), true),
        ("conversation", body(conversation(under * 15 / 16)), false),
        ("conversation_cut", body(conversation(over)), true),
        ("small_messages", body(small(under / 110)), false),
    ] {
        let capture = PromptCapture::of(&body);
        assert_eq!(capture.was_truncated(), is_truncated, "{name}");
        let kept: Vec<_> =
            capture.system_prompt().into_iter().chain(capture.request_body()).collect();
        println!("{name}: {} bytes", kept.iter().map(|side| side.text().len()).sum::<usize>());
        comparison.add(
            name,
            || PromptCapture::of(black_box(&body)),
            || {
                for side in &kept {
                    black_box(Sha256::digest(black_box(side.text())));
                }
            },
        );
    }
    comparison.print();
}

fn body(texts: Vec<String>) -> Value {
    let message = |text| json!({"role": "user", "content": text});
    json!({"model": "partner/preview-foo", "messages": texts.into_iter().map(message).collect::<Value>()})
}

/// Body with a system prompt of about `length` bytes and a short question.
fn system_prompt(length: usize) -> Value {
    json!({
        "model": "partner/preview-foo",
        "messages": [
            {"role": "system", "content": conversation(length).concat()},
            {"role": "user", "content": "Why is the sky blue?"},
        ],
    })
}

/// Messages of 0.5 to 4 KiB from varying places of the texts, about `length` bytes in all.
fn conversation(length: usize) -> Vec<String> {
    let mut left = length;
    let mut messages = Vec::new();
    while left > 0 {
        let at = messages.len();
        let text = TEXTS[at % TEXTS.len()];
        let start = text.floor_char_boundary(at * 7_919 % text.len());
        let end = text.floor_char_boundary(start + 512 + at * 1_009 % 3_584);
        messages.push(text[start..end].to_owned());
        left = left.saturating_sub(end - start);
    }
    messages
}

fn small(messages: usize) -> Vec<String> {
    let text =
        |at| format!("Message {at}: what is seventeen times {at}, and how do you know it?\n");
    (0..messages).map(text).collect()
}
