//! Stands in for a partner: several models behind one API, each of which asks for its own key.
//!
//! As real ones do, it tells more of a checkpoint than a gateway's clients may learn.

use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

use crate::Result;

/// The models with their keys, which open nothing else. The second is there to rotate the first.
pub const MODELS: [(&str, [&str; 2]); 4] = [
    ("preview-rc1", ["sk-demo-control-1", "sk-demo-control-2"]),
    ("preview-rc2", ["sk-demo-candidate-1", "sk-demo-candidate-2"]),
    ("preview-rc3", ["sk-demo-candidate-1", "sk-demo-candidate-2"]),
    ("house/standard", ["sk-demo-house-1", "sk-demo-house-2"]),
];

/// A call that was answered.
#[derive(Clone, Serialize)]
struct Call {
    request_id: Option<String>,
    /// Which of the model's keys it came with, from 1 on.
    key: usize,
    /// The body without its messages.
    body: Map<String, Value>,
}

type Calls = Arc<Mutex<Vec<Call>>>;

/// Starts it on a free port, and returns its URL. `/v1` is the API, `/calls` tells what it was called with.
pub async fn start() -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let app = Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/calls", get(list))
        .with_state(Calls::default());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

async fn complete(
    State(calls): State<Calls>,
    headers: HeaderMap,
    Json(mut body): Json<Map<String, Value>>,
) -> Response {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(key) = key_number(&model, header(AUTHORIZATION.as_str())) else {
        return (StatusCode::UNAUTHORIZED, format!("{model} is not opened by this key"))
            .into_response();
    };
    let messages = body.remove("messages").unwrap_or_default();
    tracing::info!(model, key, fields = ?body.keys().collect::<Vec<_>>(), "the upstream was called");
    let request_id = header("x-request-id").map(str::to_owned);
    calls.lock().unwrap_or_else(PoisonError::into_inner).push(Call { request_id, key, body });

    let (prompt_tokens, completion_tokens) = (messages.to_string().len().div_ceil(4), 3);
    let answer = json!({
        "id": format!("{model}-1"),
        "model": model,
        "system_fingerprint": format!("fp-{model}"),
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": "I hear you.", "served_by": model},
            "finish_reason": "stop",
        }],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    });
    ([("x-served-by", model)], Json(answer)).into_response()
}

fn key_number(model: &str, authorization: Option<&str>) -> Option<usize> {
    let presented = authorization?.strip_prefix("Bearer ")?;
    let (_, keys) = MODELS.iter().find(|(name, _)| *name == model)?;
    Some(keys.iter().position(|key| *key == presented)? + 1)
}

async fn list(State(calls): State<Calls>) -> Json<Vec<Call>> {
    Json(calls.lock().unwrap_or_else(PoisonError::into_inner).clone())
}
