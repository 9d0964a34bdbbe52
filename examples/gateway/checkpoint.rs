//! Calls to a checkpoint: the transformed request, and the part of the answer that clients may see.

use model_experiments::secrecy::{ExposeSecret, SecretString};
use model_experiments::serde_json::{Map, Value};
use model_experiments::uuid::Uuid;
use model_experiments::values::{CipherError, Upstream};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};

/// A checkpoint and its API key.
pub struct Checkpoint {
    pub upstream: Upstream,
    pub api_key: SecretString,
}

/// The part of an answer that clients may see. Other fields, as a fingerprint, reveal the model.
#[derive(Deserialize)]
pub struct Completion {
    pub choices: Vec<Choice>,
    pub usage: Option<Tokens>,
}

#[derive(Deserialize, Serialize)]
pub struct Choice {
    index: u32,
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Message {
    role: String,
    content: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Value>,
}

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
pub struct Tokens {
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    total_tokens: u32,
}

/// Why there is no answer: for the operator's log only, because it reveals the checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Key(#[from] CipherError),
    #[error("the base URL can't have a path")]
    BaseUrl,
    #[error("the upstream answered with the status {0}")]
    Status(StatusCode),
    #[error("{0}")]
    Http(reqwest::Error),
}

impl Failure {
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_timeout())
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error.without_url())
    }
}

impl Checkpoint {
    /// Sends `body`, the client's fields, to the checkpoint.
    pub async fn complete(
        &self,
        client: &reqwest::Client,
        request_id: Uuid,
        body: &Map<String, Value>,
    ) -> Result<Completion, Failure> {
        let answer = client
            .post(self.url()?)
            .bearer_auth(self.api_key.expose_secret())
            .header("x-request-id", request_id.to_string())
            .json(&self.body(body))
            .send()
            .await?;
        match answer.status() {
            StatusCode::OK => Ok(answer.json().await?),
            status => Err(Failure::Status(status)),
        }
    }

    fn url(&self) -> Result<Url, Failure> {
        let mut url = Url::parse(self.upstream.base_url()).map_err(|_| Failure::BaseUrl)?;
        url.path_segments_mut()
            .map_err(|()| Failure::BaseUrl)?
            .pop_if_empty()
            .extend(["chat", "completions"]);
        Ok(url)
    }

    fn body(&self, body: &Map<String, Value>) -> Map<String, Value> {
        let mut body = body.clone();
        body.insert("model".to_owned(), self.upstream.internal_id().into());
        for field in self.upstream.remove_from_body() {
            body.remove(field);
        }
        body.extend(self.upstream.extra_body().unwrap_or_default());
        body
    }
}
