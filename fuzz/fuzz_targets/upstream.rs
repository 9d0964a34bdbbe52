//! An accepted upstream is written back unchanged, and holds no credential.

#![no_main]

mod json;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use model_experiments::values::{InvalidValue, Upstream};
use serde_json::{Map, Value, json};

use json::{Fields, Json, Name, SECRET};

/// Upstream with few mistakes.
#[derive(Arbitrary)]
struct Candidate {
    internal_id: Text,
    base_url: BaseUrl,
    opencode: Option<Setting>,
    openclaw: Option<Setting>,
    extra_body: Option<Fields>,
    remove_from_body: Option<Vec<Text>>,
    add_cache_breakpoints: Option<bool>,
    other: Option<(Other, Json)>,
}

#[derive(Arbitrary)]
enum Text {
    Ordinary,
    Any(String),
    Secret,
}

#[derive(Arbitrary)]
struct BaseUrl {
    is_https: bool,
    user: Option<String>,
    host: Text,
    rest: String,
    query: Option<(Name, Text)>,
}

#[derive(Arbitrary)]
enum Setting {
    Known(u8),
    Any(Json),
}

/// Name of a field, which may be one of those above.
#[derive(Arbitrary)]
enum Other {
    Known(u8),
    Any(Name),
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        match text {
            Text::Ordinary => "partner.example".to_owned(),
            Text::Any(text) => text,
            Text::Secret => SECRET.to_owned(),
        }
    }
}

impl From<BaseUrl> for String {
    fn from(url: BaseUrl) -> Self {
        let BaseUrl { is_https, user, host, rest, query } = url;
        let scheme = if is_https { "https" } else { "http" };
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        let query = query
            .map(|(name, value)| format!("?{}={}", String::from(name), String::from(value)))
            .unwrap_or_default();
        format!("{scheme}://{user}{}{rest}{query}", String::from(host))
    }
}

fn setting(setting: Setting, name: &str, known: &[&str]) -> Value {
    match setting {
        Setting::Known(of) => json!({name: known[usize::from(of) % known.len()]}),
        Setting::Any(any) => any.into(),
    }
}

impl From<Candidate> for Value {
    fn from(candidate: Candidate) -> Self {
        const FIELDS: [&str; 8] = [
            "internal_id",
            "base_url",
            "opencode_settings",
            "openclaw_settings",
            "extra_body",
            "remove_from_body",
            "add_cache_breakpoints",
            "inject_reasoning_into_content",
        ];
        let mut fields = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        set(FIELDS[0], Some(String::from(candidate.internal_id).into()));
        set(FIELDS[1], Some(String::from(candidate.base_url).into()));
        let known = ["anthropic", "openai-compatible", "mistral"];
        set(FIELDS[2], candidate.opencode.map(|of| setting(of, "ai_sdk_provider", &known)));
        let known = ["openai-responses", "anthropic-messages"];
        set(FIELDS[3], candidate.openclaw.map(|of| setting(of, "api_adapter", &known)));
        set(FIELDS[4], candidate.extra_body.map(|fields| Map::from(fields).into()));
        let texts = |texts: Vec<Text>| texts.into_iter().map(String::from).collect::<Vec<_>>();
        set(FIELDS[5], candidate.remove_from_body.map(|names| texts(names).into()));
        set(FIELDS[6], candidate.add_cache_breakpoints.map(Into::into));
        if let Some((other, value)) = candidate.other {
            let name = match other {
                Other::Known(of) => FIELDS[usize::from(of) % FIELDS.len()].to_owned(),
                Other::Any(name) => name.into(),
            };
            fields.insert(name, value.into());
        }
        fields.into()
    }
}

/// Calls `see` with every name and every text in `json`.
fn walk(json: &Value, see: &mut impl FnMut(Option<&str>, &str)) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| walk(item, see)),
        Value::Object(fields) => {
            for (name, value) in fields {
                see(Some(name), "");
                walk(value, see);
            }
        }
        Value::String(text) => see(None, text),
        _ => {}
    }
}

/// Documented rule: these names, in any case and with any separators.
fn is_credential(name: &str) -> bool {
    let name: String = name.chars().filter(|c| c.is_alphanumeric()).collect();
    ["apikey", "xapikey", "authorization"].iter().any(|of| name.eq_ignore_ascii_case(of))
}

fn accepted(json: &Value, upstream: &Upstream) {
    assert_eq!(&serde_json::to_value(upstream).unwrap(), json);
    let text = serde_json::to_string(upstream).unwrap();
    assert_eq!(&serde_json::from_str::<Upstream>(&text).unwrap(), upstream);

    walk(json, &mut |name, text| {
        assert!(!text.contains('\0') && !name.is_some_and(|name| name.contains('\0')));
    });
    let extra_body = upstream.extra_body().unwrap_or_default();
    walk(&extra_body.into(), &mut |name, _| {
        assert!(!name.is_some_and(is_credential), "{name:?} is a credential's name");
    });

    assert!(!upstream.internal_id().is_empty());
    let (scheme, rest) = upstream.base_url().split_once("://").unwrap();
    assert!(scheme == "http" || scheme == "https", "{scheme}");
    assert!(!rest.contains('#') && !rest.contains(char::is_whitespace));
    let authority = rest.split(['/', '?']).next().unwrap();
    assert!(!authority.is_empty());
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    assert!(user.chars().all(|c| matches!(c, ':' | '@')), "{user} is a user name or password");
    for pair in rest.split_once('?').map_or("", |(_, query)| query).split('&') {
        let name = pair.split('=').next().unwrap();
        assert!(name != "key" && !is_credential(name), "{name} is a credential's name");
    }
}

fn refused(json: &Value, error: &InvalidValue) {
    assert!(error.field() == "upstream" || error.field().starts_with("upstream."), "{error}");
    let mut is_in_name = false;
    walk(json, &mut |name, _| is_in_name |= name.is_some_and(|name| name.contains(SECRET)));
    assert!(is_in_name || !error.to_string().contains(SECRET), "{error}");
}

fuzz_target!(|data: &[u8]| {
    let Some(json) = json::read::<Candidate>(data) else { return };
    match Upstream::from_json(json.clone()) {
        Ok(upstream) => accepted(&json, &upstream),
        Err(error) => refused(&json, &error),
    }
});
