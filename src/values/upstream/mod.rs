//! Where and how a checkpoint is called.

mod compact_object;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::Jsonb;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::io::Write;
use url::Url;

use crate::values::invalid::InvalidValue;
use crate::values::nesting::dismantle;
use crate::values::text::storable;
use crate::values::upstream::compact_object::CompactObject;

/// Where and how a checkpoint is called: the immutable content of a variant version.
///
/// Read strictly: an unknown field, a `null` or a value of the wrong type is refused, and so is anything
/// that looks like a credential, since keys are stored encrypted in a column of their own. What is
/// read is written back unchanged.
///
/// ```
/// use model_experiments::values::Upstream;
///
/// let upstream = Upstream::from_json(serde_json::json!({
///     "internal_id": "foo-rc2",
///     "base_url": "https://partner.example/v1",
///     "extra_body": {"temperature": 0.2},
/// }))?;
/// assert_eq!(upstream.internal_id(), "foo-rc2");
///
/// let error = Upstream::from_json(serde_json::json!({
///     "internal_id": "foo-rc2",
///     "base_url": "https://partner.example/v1",
///     "extra_body": {"headers": {"X-Api-Key": "sk-123"}},
/// })).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "upstream.extra_body.headers.X-Api-Key looks like a credential; publish it as the version's key",
/// );
/// # Ok::<(), model_experiments::values::InvalidValue>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, AsExpression, FromSqlRow)]
#[diesel(sql_type = Jsonb)]
#[serde(try_from = "Value")]
pub struct Upstream {
    internal_id: String,
    base_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    opencode_settings: Option<OpencodeSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    openclaw_settings: Option<OpenclawSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_body: Option<CompactObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove_from_body: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    add_cache_breakpoints: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inject_reasoning_into_content: Option<bool>,
}

/// Settings for clients that call models through an AI SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OpencodeSettings {
    /// The SDK's provider module.
    pub ai_sdk_provider: AiSdkProvider,
}

/// A provider module of the AI SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the provider's name")]
pub enum AiSdkProvider {
    Anthropic,
    Openai,
    OpenaiCompatible,
    Openrouter,
    Alibaba,
    Mistral,
}

/// Settings for clients that speak to models through an API adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OpenclawSettings {
    /// The adapter.
    pub api_adapter: ApiAdapter,
}

/// The protocol that an API adapter speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the protocol's name")]
pub enum ApiAdapter {
    OpenaiCompletions,
    OpenaiResponses,
    AnthropicMessages,
}

impl Upstream {
    /// The deepest nesting of `extra_body`, in levels.
    pub const MAX_DEPTH: usize = 64;

    /// The longest upstream, in bytes: those of its names and texts, and one for each value.
    pub const MAX_BYTES: usize = 1 << 20;

    /// Reads the JSON that an upstream is stored as.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] names the first field that breaks a rule, as a path.
    pub fn from_json(json: Value) -> Result<Self, InvalidValue> {
        if let Err(error) = bounded(&json) {
            dismantle(json);
            return Err(error);
        }
        let mut fields = Fields::of("upstream", json)?;
        let upstream = Self {
            internal_id: fields.text("internal_id")?,
            base_url: fields.base_url("base_url")?,
            opencode_settings: fields.optional("opencode_settings", |path, value| {
                let mut settings = Fields::of(path, value)?;
                let ai_sdk_provider = settings.named(
                    "ai_sdk_provider",
                    "must be one of anthropic, openai, openai-compatible, openrouter, alibaba, mistral",
                )?;
                settings.finish()?;
                Ok(OpencodeSettings { ai_sdk_provider })
            })?,
            openclaw_settings: fields.optional("openclaw_settings", |path, value| {
                let mut settings = Fields::of(path, value)?;
                let api_adapter = settings.named(
                    "api_adapter",
                    "must be one of openai-completions, openai-responses, anthropic-messages",
                )?;
                settings.finish()?;
                Ok(OpenclawSettings { api_adapter })
            })?,
            extra_body: fields.optional("extra_body", |path, value| {
                inspect(&value)
                    .map_err(|(below, reason)| refused(&format!("{path}{below}"), reason))?;
                object(path, value).map(CompactObject::from)
            })?,
            remove_from_body: fields.optional("remove_from_body", texts)?,
            add_cache_breakpoints: fields.optional("add_cache_breakpoints", boolean)?,
            inject_reasoning_into_content: fields
                .optional("inject_reasoning_into_content", boolean)?,
        };
        fields.finish()?;
        Ok(upstream)
    }

    /// The checkpoint's id, as its provider knows it.
    pub fn internal_id(&self) -> &str {
        &self.internal_id
    }

    /// The absolute http or https URL that the checkpoint is served under.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Settings for clients that call models through an AI SDK.
    pub fn opencode_settings(&self) -> Option<OpencodeSettings> {
        self.opencode_settings
    }

    /// Settings for clients that speak to models through an API adapter.
    pub fn openclaw_settings(&self) -> Option<OpenclawSettings> {
        self.openclaw_settings
    }

    /// Fields to add to every request body. They are held as text, and parsed by each call.
    pub fn extra_body(&self) -> Option<Map<String, Value>> {
        self.extra_body.as_ref().map(CompactObject::to_map)
    }

    /// Names of fields to remove from every request body.
    pub fn remove_from_body(&self) -> &[String] {
        self.remove_from_body.as_deref().unwrap_or_default()
    }

    /// Whether to add cache breakpoints to the messages.
    pub fn add_cache_breakpoints(&self) -> bool {
        self.add_cache_breakpoints.unwrap_or_default()
    }

    /// Whether to put the reasoning into the content of an answer.
    pub fn inject_reasoning_into_content(&self) -> bool {
        self.inject_reasoning_into_content.unwrap_or_default()
    }
}

impl TryFrom<Value> for Upstream {
    type Error = InvalidValue;

    fn try_from(json: Value) -> Result<Self, InvalidValue> {
        Self::from_json(json)
    }
}

impl ToSql<Jsonb, Pg> for Upstream {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        const JSONB_VERSION: u8 = 1;
        out.write_all(&[JSONB_VERSION])?;
        serde_json::to_writer(out, self)?;
        Ok(IsNull::No)
    }
}

impl FromSql<Jsonb, Pg> for Upstream {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self::from_json(FromSql::<Jsonb, Pg>::from_sql(value)?)?)
    }
}

/// The fields of an object that were not read yet.
///
/// serde's own messages quote the value that they refuse, which could be a key in the wrong place.
struct Fields {
    path: String,
    left: Map<String, Value>,
}

impl Fields {
    fn of(path: &str, json: Value) -> Result<Self, InvalidValue> {
        Ok(Self { path: path.to_owned(), left: object(path, json)? })
    }

    fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str, Value) -> Result<T, InvalidValue>,
    ) -> Result<Option<T>, InvalidValue> {
        self.left
            .remove(name)
            .map(|value| read(&format!("{}.{name}", self.path), value))
            .transpose()
    }

    fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str, Value) -> Result<T, InvalidValue>,
    ) -> Result<T, InvalidValue> {
        self.optional(name, read)?
            .ok_or_else(|| refused(&format!("{}.{name}", self.path), "is missing"))
    }

    fn text(&mut self, name: &str) -> Result<String, InvalidValue> {
        self.required(name, |path, value| {
            let text = text(path, value)?;
            if text.is_empty() {
                return Err(refused(path, "must not be empty"));
            }
            Ok(text)
        })
    }

    fn base_url(&mut self, name: &str) -> Result<String, InvalidValue> {
        self.required(name, |path, value| {
            let text = text(path, value)?;
            // The parser repairs what it is given, and what is stored is the text.
            let after_scheme = text.strip_prefix("http://").or(text.strip_prefix("https://"));
            let is_plain = after_scheme.is_some_and(|rest| !rest.starts_with('/'))
                && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
            let url = Url::parse(&text)
                .ok()
                .filter(|_| is_plain)
                .ok_or_else(|| refused(path, "must be an absolute http or https URL"))?;
            if url.fragment().is_some() {
                return Err(refused(path, "must not have a fragment"));
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err(refused(path, "must not contain a user name or password"));
            }
            if url.query_pairs().any(|(name, _)| name == "key" || looks_like_credential(&name)) {
                return Err(refused(path, "must not contain a credential"));
            }
            Ok(text)
        })
    }

    fn named<T: for<'de> Deserialize<'de>>(
        &mut self,
        name: &str,
        one_of: &'static str,
    ) -> Result<T, InvalidValue> {
        self.required(name, |path, value| {
            serde_json::from_value(value).map_err(|_| refused(path, one_of))
        })
    }

    fn finish(self) -> Result<(), InvalidValue> {
        match self.left.keys().next() {
            Some(name) => Err(refused(&format!("{}.{name}", self.path), "is not a known field")),
            None => Ok(()),
        }
    }
}

const NO_OBJECT: &str = "must be an object";
const NUL: &str = "must not contain a NUL character";

fn refused(path: &str, reason: &'static str) -> InvalidValue {
    InvalidValue::new(path.to_owned(), reason)
}

fn object(path: &str, value: Value) -> Result<Map<String, Value>, InvalidValue> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(refused(path, NO_OBJECT)),
    }
}

fn text(path: &str, value: Value) -> Result<String, InvalidValue> {
    match value {
        Value::String(text) => {
            storable(path, &text)?;
            Ok(text)
        }
        _ => Err(refused(path, "must be a text")),
    }
}

fn texts(path: &str, value: Value) -> Result<Vec<String>, InvalidValue> {
    match value {
        Value::Array(items) => items.into_iter().map(|item| text(path, item)).collect(),
        _ => Err(refused(path, "must be a list of texts")),
    }
}

fn boolean(path: &str, value: Value) -> Result<bool, InvalidValue> {
    value.as_bool().ok_or_else(|| refused(path, "must be true or false"))
}

/// Refuses JSON that is too long or too deep. It neither recurses nor copies, so that no length or depth
/// exhausts anything.
fn bounded(json: &Value) -> Result<(), InvalidValue> {
    let names =
        |fields: &Map<String, Value>| fields.keys().map(|name| name.len() + 1).sum::<usize>();
    let fields = json.as_object().ok_or_else(|| refused("upstream", NO_OBJECT))?;
    let mut bytes = names(fields);
    let mut open: Vec<_> = fields.iter().map(|(name, value)| (name, 1, value)).collect();
    while let Some((field, level, value)) = open.pop() {
        bytes += match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.len(),
            Value::Object(fields) => names(fields),
            _ => 0,
        };
        // Before the field is named, or what is inside is listed.
        if bytes > Upstream::MAX_BYTES {
            return Err(refused("upstream", "must be at most 1 MiB long"));
        }
        if level > Upstream::MAX_DEPTH && (value.is_array() || value.is_object()) {
            let path = format!("upstream.{field}");
            return Err(refused(&path, "must be nested at most 64 levels deep"));
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (field, level + 1, item))),
            Value::Object(fields) => {
                open.extend(fields.values().map(|value| (field, level + 1, value)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses credentials, and what `jsonb` can't hold, anywhere in `body`, which is bounded. The path in the
/// error is the one below `body`, and is put together only then.
fn inspect(body: &Value) -> Result<(), (String, &'static str)> {
    match body {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            let inspected = if looks_like_credential(name) {
                Err((String::new(), "looks like a credential; publish it as the version's key"))
            } else if name.contains('\0') {
                Err((String::new(), NUL))
            } else {
                inspect(value)
            };
            inspected.map_err(|(path, reason)| (format!(".{name}{path}"), reason))
        }),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(at, item)| {
            inspect(item).map_err(|(path, reason)| (format!("[{at}]{path}"), reason))
        }),
        Value::String(text) if text.contains('\0') => Err((String::new(), NUL)),
        _ => Ok(()),
    }
}

fn looks_like_credential(name: &str) -> bool {
    const ENDINGS: [&str; 5] =
        ["apikey", "authorization", "accesstoken", "authtoken", "bearertoken"];
    const NAMES: [&str; 4] = ["apitoken", "apisecret", "clientsecret", "secretkey"];
    let letters: String =
        name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    ENDINGS.iter().any(|ending| letters.ends_with(ending)) || NAMES.contains(&letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::nesting::tests::deep;
    use serde_json::json;

    fn minimal() -> Value {
        json!({"internal_id": "foo-rc1", "base_url": "https://partner.example/v1"})
    }

    fn with(field: &str, value: Value) -> Value {
        let mut json = minimal();
        json[field] = value;
        json
    }

    fn refusal(json: Value) -> String {
        Upstream::from_json(json).unwrap_err().to_string()
    }

    #[test]
    fn writes_back_what_it_read() {
        let full = json!({
            "internal_id": "foo-rc1",
            "base_url": "http://[::1]:8080/v1?api-version=2026-01-01",
            "opencode_settings": {"ai_sdk_provider": "openai-compatible"},
            "openclaw_settings": {"api_adapter": "anthropic-messages"},
            "extra_body": {"temperature": 0.2, "top_k": 40, "stop": ["a"], "nested": {"b": null}},
            "remove_from_body": ["user", "api_key"],
            "add_cache_breakpoints": false,
            "inject_reasoning_into_content": true,
        });
        for json in
            [minimal(), full, with("extra_body", json!({})), with("remove_from_body", json!([]))]
        {
            let upstream = Upstream::from_json(json.clone()).unwrap();
            assert_eq!(serde_json::to_value(&upstream).unwrap(), json);
        }
    }

    #[test]
    fn tells_each_field_that_it_read() {
        let upstream = Upstream::from_json(json!({
            "internal_id": "foo-rc1",
            "base_url": "https://partner.example/v1",
            "opencode_settings": {"ai_sdk_provider": "openai-compatible"},
            "openclaw_settings": {"api_adapter": "anthropic-messages"},
            "extra_body": {"temperature": 0.2},
            "remove_from_body": ["user", "seed"],
            "add_cache_breakpoints": true,
            "inject_reasoning_into_content": true,
        }))
        .unwrap();
        assert_eq!(upstream.internal_id(), "foo-rc1");
        assert_eq!(upstream.base_url(), "https://partner.example/v1");
        let provider = upstream.opencode_settings().unwrap().ai_sdk_provider;
        assert_eq!(provider, AiSdkProvider::OpenaiCompatible);
        let adapter = upstream.openclaw_settings().unwrap().api_adapter;
        assert_eq!(adapter, ApiAdapter::AnthropicMessages);
        assert_eq!(upstream.extra_body().as_ref(), json!({"temperature": 0.2}).as_object());
        assert_eq!(upstream.remove_from_body(), ["user", "seed"]);
        assert!(upstream.add_cache_breakpoints() && upstream.inject_reasoning_into_content());

        let upstream = Upstream::from_json(minimal()).unwrap();
        assert_eq!((upstream.opencode_settings(), upstream.openclaw_settings()), (None, None));
        assert_eq!(upstream.extra_body(), None);
        assert!(upstream.remove_from_body().is_empty());
        assert!(!upstream.add_cache_breakpoints() && !upstream.inject_reasoning_into_content());
    }

    #[test]
    fn reads_every_provider_and_adapter() {
        for provider in
            ["anthropic", "openai", "openai-compatible", "openrouter", "alibaba", "mistral"]
        {
            let json = with("opencode_settings", json!({"ai_sdk_provider": provider}));
            assert_eq!(
                serde_json::to_value(Upstream::from_json(json.clone()).unwrap()).unwrap(),
                json
            );
        }
        for adapter in ["openai-completions", "openai-responses", "anthropic-messages"] {
            let json = with("openclaw_settings", json!({"api_adapter": adapter}));
            assert_eq!(
                serde_json::to_value(Upstream::from_json(json.clone()).unwrap()).unwrap(),
                json
            );
        }
    }

    #[test]
    fn names_the_field_that_breaks_a_rule() {
        for (json, expected) in [
            (json!("foo"), "upstream must be an object"),
            (json!({"base_url": "https://x.example"}), "upstream.internal_id is missing"),
            (json!({"internal_id": "a"}), "upstream.base_url is missing"),
            (with("internal_id", json!("")), "upstream.internal_id must not be empty"),
            (with("internal_id", json!(7)), "upstream.internal_id must be a text"),
            (
                with("internal_id", json!("a\0")),
                "upstream.internal_id must not contain a NUL character",
            ),
            (with("surprise", json!(1)), "upstream.surprise is not a known field"),
            (with("extra_body", json!(null)), "upstream.extra_body must be an object"),
            (
                with("remove_from_body", json!("user")),
                "upstream.remove_from_body must be a list of texts",
            ),
            (with("remove_from_body", json!([1])), "upstream.remove_from_body must be a text"),
            (
                with("add_cache_breakpoints", json!("yes")),
                "upstream.add_cache_breakpoints must be true or false",
            ),
            (
                with("opencode_settings", json!({})),
                "upstream.opencode_settings.ai_sdk_provider is missing",
            ),
            (
                with("opencode_settings", json!({"ai_sdk_provider": "openai", "x": 1})),
                "upstream.opencode_settings.x is not a known field",
            ),
            (
                with("openclaw_settings", json!({"api_adapter": "openai-responses", "x": 1})),
                "upstream.openclaw_settings.x is not a known field",
            ),
            (
                with("openclaw_settings", json!({"api_adapter": "soap"})),
                "upstream.openclaw_settings.api_adapter must be one of openai-completions, openai-responses, anthropic-messages",
            ),
            (
                with("extra_body", json!({"a": [{"b": "\0"}]})),
                "upstream.extra_body.a[0].b must not contain a NUL character",
            ),
            (
                with("extra_body", json!({"a\0": 1})),
                "upstream.extra_body.a\0 must not contain a NUL character",
            ),
        ] {
            assert_eq!(refusal(json), expected);
        }
    }

    #[test]
    fn base_url_is_absolute_and_holds_no_credential() {
        for url in [
            "",
            "partner.example/v1",
            "/v1",
            "ftp://x.example",
            "https://",
            "https://:443/v1",
            "javascript:alert(1)",
            "https:x.example",
            "https:///x.example",
            r"https:\\x.example",
            " https://x.example",
            "https://x.example/a b",
            "https://x.exa\nmple",
            "https://x.example/\u{7f}",
            r"https://x.example\v1",
        ] {
            assert_eq!(
                refusal(with("base_url", json!(url))),
                "upstream.base_url must be an absolute http or https URL"
            );
        }
        for url in ["https://user@x.example", "https://:secret@x.example", "https://u:p@x.example"]
        {
            let error = refusal(with("base_url", json!(url)));
            assert_eq!(error, "upstream.base_url must not contain a user name or password");
        }
        for query in ["api_key=sk-1", "v=1&key=sk-1", "X-Api-Key=sk-1"] {
            let error = refusal(with("base_url", json!(format!("https://x.example/?{query}"))));
            assert_eq!(error, "upstream.base_url must not contain a credential");
        }
        let error = refusal(with("base_url", json!("https://x.example/#api_key=sk-1")));
        assert_eq!(error, "upstream.base_url must not have a fragment");
    }

    #[test]
    fn extra_body_holds_no_credential_at_any_depth() {
        for name in [
            "api_key",
            "API-Key",
            "apiKey",
            "x-api-key",
            "X_API_KEY",
            "openai_api_key",
            "Authorization",
            "Proxy-Authorization",
            "access_token",
            "auth_token",
            "bearer_token",
            "api_token",
            "api-secret",
            "client-secret",
            "secretKey",
        ] {
            for body in [json!({name: "sk-1"}), json!({"a": [1, {"b": {name: {}}}]})] {
                let error = refusal(with("extra_body", body));
                assert!(
                    error.ends_with("looks like a credential; publish it as the version's key")
                );
                assert!(error.contains(name) && !error.contains("sk-1"), "{error}");
            }
        }
        for name in ["max_tokens", "key", "api", "token_budget", "authorized", "keyboard"] {
            assert!(Upstream::from_json(with("extra_body", json!({name: 1}))).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_refused_value_is_never_quoted() {
        for field in [
            "internal_id",
            "base_url",
            "opencode_settings",
            "extra_body",
            "remove_from_body",
            "add_cache_breakpoints",
        ] {
            for value in [json!(["sk-secret", {"sk-secret": 1}]), json!("sk-secret\0")] {
                let error = refusal(with(field, value));
                assert!(!error.contains("sk-secret"), "{error}");
            }
        }
    }

    #[test]
    fn nesting_is_bounded() {
        for around in [|inner| json!({"a": inner}), |inner| json!([inner])] {
            let nested = |levels: usize| {
                let inner = (2..levels).fold(json!({}), |inner, _| around(inner));
                with("extra_body", json!({"a": inner}))
            };
            assert!(Upstream::from_json(nested(Upstream::MAX_DEPTH)).is_ok());
            let error = refusal(nested(Upstream::MAX_DEPTH + 1));
            assert_eq!(error, "upstream.extra_body must be nested at most 64 levels deep");
        }
    }

    #[test]
    fn no_depth_exhausts_the_stack() {
        for field in ["internal_id", "extra_body", "remove_from_body", "surprise"] {
            let mut json = minimal();
            json[field] = deep();
            let expected = format!("upstream.{field} must be nested at most 64 levels deep");
            assert_eq!(refusal(json), expected);
        }
        assert_eq!(refusal(deep()), "upstream.a must be nested at most 64 levels deep");
        assert_eq!(refusal(Value::Array(vec![deep()])), "upstream must be an object");
    }

    #[test]
    fn length_is_bounded() {
        // What the names and values beside the text count.
        let text = |bytes: usize| json!({"a": "é".repeat(bytes / 2) + &"x".repeat(bytes % 2)});
        let most = Upstream::MAX_BYTES - 67;
        assert!(Upstream::from_json(with("extra_body", text(most))).is_ok());
        for longer in
            [text(most + 1), json!(vec![0; most + 4]), json!({"x".repeat(most + 1): 0, "": 0})]
        {
            let error = refusal(with("extra_body", longer));
            assert_eq!(error, "upstream must be at most 1 MiB long");
        }
        for field in ["internal_id", "base_url"] {
            let url = |bytes: usize| format!("https://partner.example/{:0<1$}", "", bytes - 24);
            assert!(Upstream::from_json(with(field, json!(url(65_536)))).is_ok());
            let expected = format!("upstream.{field} must be at most 65536 bytes long");
            assert_eq!(refusal(with(field, json!(url(65_537)))), expected);
        }
    }
}
