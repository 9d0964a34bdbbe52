//! Capture of a request's prompt: its system prompt and the rest, each capped and hashed.

use serde_json::Value;

use crate::values::prompt::canonical_json::canonical_json;
use crate::values::prompt::captured_text::CapturedText;
use crate::values::prompt::failure::CaptureFailure;
use crate::values::prompt::refs::{RequestBodyRef, SystemPromptRef};

/// Longest capture of each side, in bytes of UTF-8: 4 MiB.
pub const CAPTURE_CAP: usize = 4 << 20;

/// A request body, split into its system prompt and the rest, each capped and hashed.
///
/// - The system prompt is the content of `messages[0]`, if that is the only message with the role
///   `system`. Text is kept as it is, other content as canonical JSON.
/// - The rest is the body without that message, as canonical JSON.
///
/// Canonical JSON has sorted keys and no spaces. The same body has the same hashes on every
/// platform and in every build.
///
/// ```
/// use model_experiments::values::{PromptCapture, Sha256Digest, SystemPromptRef};
///
/// let body = serde_json::json!({
///     "model": "partner/preview-foo",
///     "messages": [
///         {"role": "system", "content": "Be brief."},
///         {"role": "user", "content": "Why?"},
///     ],
/// });
/// let capture = PromptCapture::of(&body);
/// let system = capture.system_prompt().unwrap();
/// assert_eq!(system.text(), "Be brief.");
/// assert_eq!(capture.system_prompt_ref(), SystemPromptRef::Sha256(Sha256Digest::of("Be brief.")));
/// let rest = r#"{"messages":[{"content":"Why?","role":"user"}],"model":"partner/preview-foo"}"#;
/// assert_eq!(capture.request_body().unwrap().text(), rest);
/// ```
///
/// A body that can't be captured is no error: [`failure`](Self::failure) says why, and both
/// references are `Failed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptCapture<'body>(Result<Sides<'body>, CaptureFailure>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sides<'body> {
    system_prompt: Option<CapturedText<'body>>,
    request_body: CapturedText<'body>,
}

impl<'body> PromptCapture<'body> {
    /// Captures `body`, the JSON that the client sent.
    pub fn of(body: &'body Value) -> Self {
        Self(Sides::of(body))
    }

    /// Reason why nothing was captured.
    pub fn failure(&self) -> Option<CaptureFailure> {
        self.0.as_ref().err().copied()
    }

    /// System prompt; `None` if the body has no single leading system message, or on failure.
    pub fn system_prompt(&self) -> Option<&CapturedText<'body>> {
        self.0.as_ref().ok()?.system_prompt.as_ref()
    }

    /// Rest of the body; `None` on failure.
    pub fn request_body(&self) -> Option<&CapturedText<'body>> {
        self.0.as_ref().ok().map(|sides| &sides.request_body)
    }

    /// Reference to the system prompt.
    pub fn system_prompt_ref(&self) -> SystemPromptRef {
        match &self.0 {
            Ok(sides) => sides.system_prompt.as_ref().map_or(SystemPromptRef::Absent, |captured| {
                SystemPromptRef::Sha256(captured.sha256())
            }),
            Err(_) => SystemPromptRef::Failed,
        }
    }

    /// Reference to the rest of the body.
    pub fn request_body_ref(&self) -> RequestBodyRef {
        match &self.0 {
            Ok(sides) => RequestBodyRef::Sha256(sides.request_body.sha256()),
            Err(_) => RequestBodyRef::Failed,
        }
    }

    /// Whether a side was cut at [`CAPTURE_CAP`].
    pub fn was_truncated(&self) -> bool {
        let sides = [self.request_body(), self.system_prompt()];
        sides.into_iter().flatten().any(CapturedText::is_truncated)
    }
}

impl<'body> Sides<'body> {
    fn of(body: &'body Value) -> Result<Self, CaptureFailure> {
        let system = single_leading_system_message(body);
        let request_body = canonical_json(body, system, CAPTURE_CAP)?;
        let content = |message: &'body Value| match message.get("content") {
            Some(Value::String(text)) => Ok(CapturedText::cut(text, CAPTURE_CAP)),
            other => canonical_json(other.unwrap_or(&Value::Null), None, CAPTURE_CAP),
        };
        Ok(Self { system_prompt: system.map(content).transpose()?, request_body })
    }
}

fn single_leading_system_message(body: &Value) -> Option<&Value> {
    let is_system = |message: &Value| message.get("role").is_some_and(|role| role == "system");
    let (first, rest) = body.get("messages")?.as_array()?.split_first()?;
    (is_system(first) && !rest.iter().any(is_system)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::prompt::sha256::Sha256Digest;
    use serde_json::json;

    fn message(role: &str, content: impl Into<Value>) -> Value {
        json!({"role": role, "content": content.into()})
    }

    #[test]
    fn splits_off_a_single_leading_system_message() {
        let messages = json!([message("system", "S"), message("user", "U")]);
        let body = json!({"n": 1, "messages": messages, "stop": ["a", "b"]});
        let capture = PromptCapture::of(&body);
        assert_eq!(capture.system_prompt().unwrap().text(), "S");
        let rest = r#"{"messages":[{"content":"U","role":"user"}],"n":1,"stop":["a","b"]}"#;
        assert_eq!(capture.request_body().unwrap().text(), rest);
        assert_eq!(capture.request_body_ref(), RequestBodyRef::Sha256(Sha256Digest::of(rest)));
        assert!(!capture.was_truncated());
    }

    #[test]
    fn keeps_a_body_whole_that_has_no_single_leading_system_message() {
        for body in [
            json!({"messages": []}),
            json!({"messages": "text"}),
            json!({"messages": [message("user", "U"), message("system", "S")]}),
            json!({"messages": [message("system", "S"), message("system", "S")]}),
            json!({"messages": ["system"]}),
            json!({"prompt": "U"}),
            json!(["system"]),
            json!(null),
        ] {
            let capture = PromptCapture::of(&body);
            assert_eq!(capture.system_prompt_ref(), SystemPromptRef::Absent, "{body}");
            assert_eq!(
                serde_json::from_str::<Value>(capture.request_body().unwrap().text()).unwrap(),
                body
            );
        }
    }

    #[test]
    fn keeps_content_that_is_not_text_as_json() {
        let parts = json!([{"type": "text", "text": "S"}]);
        let body = json!({"messages": [message("system", parts)]});
        let capture = PromptCapture::of(&body);
        assert_eq!(capture.system_prompt().unwrap().text(), r#"[{"text":"S","type":"text"}]"#);
        assert_eq!(capture.request_body().unwrap().text(), r#"{"messages":[]}"#);

        let body = json!({"messages": [{"role": "system"}]});
        assert_eq!(PromptCapture::of(&body).system_prompt().unwrap().text(), "null");
    }

    #[test]
    fn cuts_each_side_at_a_character_boundary() {
        // A character of 3 bytes straddles the cap: 4 MiB isn't a multiple of 3.
        let long = "語".repeat(CAPTURE_CAP / 3 + 1);
        let body = json!({"messages": [message("system", long.as_str())]});
        let capture = PromptCapture::of(&body);
        let system = capture.system_prompt().unwrap();
        assert!(system.is_truncated() && capture.was_truncated());
        assert!(!capture.request_body().unwrap().is_truncated());
        assert_eq!(system.text().len(), CAPTURE_CAP / 3 * 3);
        assert_eq!(system.sha256(), Sha256Digest::of(&long[..CAPTURE_CAP / 3 * 3]));

        let body = json!({"messages": [message("user", format!("x{long}"))]});
        let capture = PromptCapture::of(&body);
        assert!(capture.request_body().unwrap().is_truncated());
        let start = r#"{"messages":[{"content":"x"#;
        let expected = format!("{start}{long}");
        let kept = expected.floor_char_boundary(CAPTURE_CAP);
        assert!(kept < CAPTURE_CAP, "the cut is inside a character");
        assert_eq!(capture.request_body().unwrap().text(), &expected[..kept]);
    }

    #[test]
    fn keeps_what_fits_the_cap_exactly() {
        for (length, is_truncated) in [(CAPTURE_CAP, false), (CAPTURE_CAP + 1, true)] {
            let body = json!({"messages": [message("system", "x".repeat(length))]});
            let capture = PromptCapture::of(&body);
            let system = capture.system_prompt().unwrap();
            assert_eq!((system.text().len(), system.is_truncated()), (CAPTURE_CAP, is_truncated));
        }
    }

    #[test]
    fn a_body_of_too_many_levels_is_a_failure_and_exhausts_no_stack() {
        let deep = |inner| (0..100_000).fold(inner, |inner, _| Value::Array(vec![inner]));
        let in_content = deep(Value::Null);
        let mut body = json!({"messages": [message("system", "S")]});
        body["messages"][0]["content"] = in_content;
        for body in [deep(Value::Null), body] {
            let capture = PromptCapture::of(&body);
            assert_eq!(capture.failure(), Some(CaptureFailure::TooDeep));
            assert_eq!((capture.system_prompt(), capture.request_body()), (None, None));
            assert_eq!(capture.system_prompt_ref(), SystemPromptRef::Failed);
            assert_eq!(capture.request_body_ref(), RequestBodyRef::Failed);
            assert!(!capture.was_truncated());
            // Dropping it would recurse.
            std::mem::forget(body);
        }
    }

    #[test]
    fn every_body_that_a_parser_reads_is_captured() {
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(serde_json::from_str::<Value>(&nested(128)).is_err());
        let body: Value = serde_json::from_str(&nested(127)).unwrap();
        assert_eq!(PromptCapture::of(&body).failure(), None);
    }

    #[test]
    fn debug_never_shows_the_text() {
        let body =
            json!({"messages": [message("system", "secret-s"), message("user", "secret-u")]});
        let debug = format!("{:?}", PromptCapture::of(&body));
        assert!(debug.contains("sha256") && !debug.contains("secret"), "{debug}");
    }
}
