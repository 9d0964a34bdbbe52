//! Configuration of a called checkpoint.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::Jsonb;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::io::Write;

use crate::values::invalid::InvalidValue;
use crate::values::upstream::base_url::base_url;
use crate::values::upstream::compact_object::CompactObject;
use crate::values::upstream::credentials::check_json;
use crate::values::upstream::fields::{Fields, boolean, non_empty_text, object, texts};
use crate::values::upstream::limits::{MAX_BYTES, MAX_DEPTH, check_limits};
use crate::values::upstream::settings::{OpenclawSettings, OpencodeSettings};

/// Configuration of a called checkpoint, the immutable content of a variant version.
///
/// - Reading is strict: it refuses an unknown field, a `null` and a value of the wrong type.
/// - It refuses what looks like a credential: keys are encrypted, in a column of their own.
/// - JSON that was read is written back unchanged.
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
/// assert_eq!(error.field(), "upstream.extra_body.headers.X-Api-Key");
/// assert_eq!(error.reason(), "looks like a credential; publish it as the version's key");
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

impl Upstream {
    /// Deepest nesting of a field, in levels of arrays and objects.
    pub const MAX_DEPTH: usize = MAX_DEPTH;

    /// Longest upstream, in bytes of all names and texts, and one for each value.
    pub const MAX_BYTES: usize = MAX_BYTES;

    /// Reads the JSON that an upstream is stored as.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`], whose field is the path of the first one that breaks a rule.
    pub fn from_json(json: Value) -> Result<Self, InvalidValue> {
        check_limits(&json)?;
        let mut fields = Fields::of("upstream", json)?;
        let upstream = Self {
            internal_id: fields.required("internal_id", non_empty_text)?,
            base_url: fields.required("base_url", base_url)?,
            opencode_settings: fields.optional("opencode_settings", OpencodeSettings::read)?,
            openclaw_settings: fields.optional("openclaw_settings", OpenclawSettings::read)?,
            extra_body: fields.optional("extra_body", |path, value| {
                check_json(path, &value)?;
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

    /// Id of the checkpoint at its provider.
    pub fn internal_id(&self) -> &str {
        &self.internal_id
    }

    /// Absolute http or https URL of the API that serves the checkpoint.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Settings for clients that call models through an AI SDK.
    pub fn opencode_settings(&self) -> Option<OpencodeSettings> {
        self.opencode_settings
    }

    /// Settings for clients that call models through an API adapter.
    pub fn openclaw_settings(&self) -> Option<OpenclawSettings> {
        self.openclaw_settings
    }

    /// Fields to add to every request body, parsed on each call.
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

    /// Whether to move the reasoning into the content of an answer.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::upstream::settings::{AiSdkProvider, ApiAdapter};
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
                with("openclaw_settings", json!({"api_adapter": "openai-responses", "x": 1})),
                "upstream.openclaw_settings.x is not a known field",
            ),
            (
                with("base_url", json!("partner.example")),
                "upstream.base_url must be an absolute http or https URL",
            ),
            (
                with("extra_body", json!({"headers": {"X-Api-Key": "sk-1"}})),
                "upstream.extra_body.headers.X-Api-Key looks like a credential; \
                 publish it as the version's key",
            ),
            (
                with("surprise", (0..65).fold(json!(0), |inner, _| json!([inner]))),
                "upstream.surprise must be nested at most 64 levels deep",
            ),
            (with("x".repeat(1 << 20).as_str(), json!(0)), "upstream must be at most 1 MiB long"),
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
    fn a_text_is_as_long_as_a_column_allows() {
        let url = |bytes: usize| format!("https://partner.example/{:0<1$}", "", bytes - 24);
        for field in ["internal_id", "base_url"] {
            assert!(Upstream::from_json(with(field, json!(url(65_536)))).is_ok());
            let expected = format!("upstream.{field} must be at most 65536 bytes long");
            assert_eq!(refusal(with(field, json!(url(65_537)))), expected);
        }
    }
}
