//! Settings for the clients that an upstream is called by.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::values::invalid::InvalidValue;
use crate::values::upstream::fields::Fields;

/// Settings for clients that call models through an AI SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OpencodeSettings {
    /// Provider module of the SDK.
    pub ai_sdk_provider: AiSdkProvider,
}

/// Provider module of the AI SDK.
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

/// Settings for clients that call models through an API adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OpenclawSettings {
    /// Protocol that the adapter speaks.
    pub api_adapter: ApiAdapter,
}

/// Protocol that an API adapter speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the protocol's name")]
pub enum ApiAdapter {
    OpenaiCompletions,
    OpenaiResponses,
    AnthropicMessages,
}

impl OpencodeSettings {
    pub(super) fn read(path: &str, json: Value) -> Result<Self, InvalidValue> {
        let mut fields = Fields::of(path, json)?;
        let ai_sdk_provider = fields.one_of(
            "ai_sdk_provider",
            "must be one of anthropic, openai, openai-compatible, openrouter, alibaba, mistral",
        )?;
        fields.finish()?;
        Ok(Self { ai_sdk_provider })
    }
}

impl OpenclawSettings {
    pub(super) fn read(path: &str, json: Value) -> Result<Self, InvalidValue> {
        let mut fields = Fields::of(path, json)?;
        let api_adapter = fields.one_of(
            "api_adapter",
            "must be one of openai-completions, openai-responses, anthropic-messages",
        )?;
        fields.finish()?;
        Ok(Self { api_adapter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_provider_and_adapter_is_read() {
        for provider in
            ["anthropic", "openai", "openai-compatible", "openrouter", "alibaba", "mistral"]
        {
            let json = json!({"ai_sdk_provider": provider});
            let settings = OpencodeSettings::read("it", json.clone()).unwrap();
            assert_eq!(serde_json::to_value(settings).unwrap(), json);
        }
        for adapter in ["openai-completions", "openai-responses", "anthropic-messages"] {
            let json = json!({"api_adapter": adapter});
            let settings = OpenclawSettings::read("it", json.clone()).unwrap();
            assert_eq!(serde_json::to_value(settings).unwrap(), json);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for (json, expected) in [
            (json!({}), "it.ai_sdk_provider is missing"),
            (
                json!({"ai_sdk_provider": "other"}),
                "it.ai_sdk_provider must be one of anthropic, openai, openai-compatible, \
                 openrouter, alibaba, mistral",
            ),
            (json!({"ai_sdk_provider": "openai", "x": 1}), "it.x is not a known field"),
        ] {
            let error = OpencodeSettings::read("it", json).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        for (json, expected) in [
            (
                json!({"api_adapter": "soap"}),
                "it.api_adapter must be one of openai-completions, openai-responses, \
                 anthropic-messages",
            ),
            (json!({"api_adapter": "openai-responses", "x": 1}), "it.x is not a known field"),
        ] {
            let error = OpenclawSettings::read("it", json).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
