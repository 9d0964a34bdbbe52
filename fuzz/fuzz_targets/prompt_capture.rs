//! A body is captured whole or up to the cap, whatever the order of its keys, unless it is too
//! deep.

#![no_main]

mod json;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use model_experiments::values::{
    CAPTURE_CAP, CaptureFailure, CapturedText, PromptCapture, RequestBodyRef, Sha256Digest,
    SystemPromptRef,
};
use serde_json::{Map, Value, json};

use json::{Fields, Json};

/// Body with now and then a text about as long as the cap.
#[derive(Arbitrary)]
struct Body {
    messages: Vec<Message>,
    rest: Fields,
    whole: Option<Json>,
}

#[derive(Arbitrary)]
struct Message {
    role: Role,
    content: Content,
    rest: Fields,
}

#[derive(Arbitrary)]
enum Role {
    System,
    User,
    Any(Json),
}

enum Content {
    Any(Json),
    Long(String),
    Missing,
}

impl<'a> Arbitrary<'a> for Content {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        // With no bytes left, it is the start of the range.
        Ok(match u.int_in_range(0..=9_999_u16)? {
            9_999 => {
                let (start, filler): (String, char) = u.arbitrary()?;
                let left = (CAPTURE_CAP + u.int_in_range(0..=8)?).saturating_sub(start.len());
                let filler = filler.to_string().repeat(left / filler.len_utf8());
                Self::Long(format!("{start}{filler}"))
            }
            9_000.. => Self::Missing,
            _ => Self::Any(u.arbitrary()?),
        })
    }
}

impl From<Message> for Value {
    fn from(message: Message) -> Self {
        let mut fields = Map::from(message.rest);
        let role = match message.role {
            Role::System => json!("system"),
            Role::User => json!("user"),
            Role::Any(json) => json.into(),
        };
        fields.insert("role".to_owned(), role);
        match message.content {
            Content::Any(json) => drop(fields.insert("content".to_owned(), json.into())),
            Content::Long(text) => drop(fields.insert("content".to_owned(), text.into())),
            Content::Missing => {}
        }
        fields.into()
    }
}

impl From<Body> for Value {
    fn from(body: Body) -> Self {
        if let Some(whole) = body.whole {
            return whole.into();
        }
        let mut fields = Map::from(body.rest);
        let messages = body.messages.into_iter().map(Self::from).collect();
        fields.insert("messages".to_owned(), Self::Array(messages));
        fields.into()
    }
}

/// Splits `body` into the rest and the system prompt, as documented.
fn split(mut body: Value) -> (Value, Option<Value>) {
    let messages = body.get_mut("messages").and_then(Value::as_array_mut);
    let system = messages.filter(|messages| {
        let mut roles =
            messages.iter().map(|message| message.get("role") == Some(&json!("system")));
        roles.next() == Some(true) && !roles.any(|is_system| is_system)
    });
    let system = system.map(|messages| messages.remove(0)["content"].take());
    (body, system)
}

fn reversed(json: &Value) -> Value {
    match json {
        Value::Array(items) => items.iter().map(reversed).collect(),
        Value::Object(fields) => {
            fields.iter().rev().map(|(name, value)| (name.clone(), reversed(value))).collect()
        }
        other => other.clone(),
    }
}

/// Number of levels of arrays and objects.
fn depth(json: &Value) -> usize {
    match json {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

fn check(captured: &CapturedText<'_>, whole: Option<&str>) {
    let text = captured.text();
    assert!(text.len() <= CAPTURE_CAP);
    assert_eq!(captured.sha256(), Sha256Digest::of(text));
    // A character has at most four bytes.
    assert!(!captured.is_truncated() || text.len() > CAPTURE_CAP - 4);
    if let Some(whole) = whole {
        assert!(whole.starts_with(text));
        assert_eq!(captured.is_truncated(), whole.len() > CAPTURE_CAP);
    }
}

fn check_json(captured: &CapturedText<'_>, whole: &Value) {
    check(captured, None);
    if captured.is_truncated() {
        assert!(serde_json::to_string(whole).unwrap().len() > CAPTURE_CAP / 8);
    } else if depth(whole) < 128 {
        // serde_json reads no more levels.
        assert_eq!(&serde_json::from_str::<Value>(captured.text()).unwrap(), whole);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(body) = json::read::<Body>(data) else { return };
    let capture = PromptCapture::of(&body);
    assert_eq!(capture, PromptCapture::of(&body));

    let is_too_deep = depth(&body) > 128;
    assert_eq!(capture.failure(), is_too_deep.then_some(CaptureFailure::TooDeep));
    let Some(request_body) = capture.request_body() else {
        assert!(is_too_deep && capture.system_prompt().is_none() && !capture.was_truncated());
        assert_eq!(capture.system_prompt_ref(), SystemPromptRef::Failed);
        assert_eq!(capture.request_body_ref(), RequestBodyRef::Failed);
        return;
    };

    let (rest, system) = split(body.clone());
    check_json(request_body, &rest);
    assert_eq!(capture.system_prompt().is_some(), system.is_some());
    match (capture.system_prompt(), &system) {
        (Some(captured), Some(Value::String(text))) => check(captured, Some(text)),
        (Some(captured), Some(content)) => check_json(captured, content),
        _ => assert_eq!(capture.system_prompt_ref(), SystemPromptRef::Absent),
    }
    let body_ref = RequestBodyRef::Sha256(request_body.sha256());
    assert_eq!(capture.request_body_ref(), body_ref);
    let sides = [Some(request_body), capture.system_prompt()];
    let is_truncated = sides.into_iter().flatten().any(CapturedText::is_truncated);
    assert_eq!(capture.was_truncated(), is_truncated);

    let other_order = serde_json::to_string(&reversed(&body)).unwrap();
    // serde_json reads fewer levels than it writes.
    if let Ok(other_order) = serde_json::from_str(&other_order) {
        assert_eq!(PromptCapture::of(&other_order), capture);
    }
});
