//! A value that holds a key or a prompt is serialised.

use model_experiments::routing::{RoutedExperiment, Served};
use model_experiments::secrecy::SecretString;
use model_experiments::values::{ApiKeyCipher, EncryptedApiKey, PromptCapture};
use serde::Serialize;
use serde_json::value::Serializer;

fn log(
    key: &SecretString,
    encrypted: &EncryptedApiKey,
    cipher: &ApiKeyCipher,
    served: &Served,
    routed: &RoutedExperiment,
    prompt: &PromptCapture<'_>,
) -> serde_json::Result<()> {
    key.serialize(Serializer)?;
    encrypted.serialize(Serializer)?;
    cipher.serialize(Serializer)?;
    served.serialize(Serializer)?;
    routed.serialize(Serializer)?;
    prompt.serialize(Serializer)?;
    Ok(())
}

fn main() {}
