//! A fake partner: several models behind one API, each opened by keys of its own.
//!
//! Like a real upstream, it reveals more about a checkpoint than a gateway's clients may learn.

use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use model_experiments::serde_json::{Map, Value, json};
use serde::Serialize;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

use crate::Result;

/// A model of the upstream. Its keys open nothing else.
pub struct Model {
    pub id: &'static str,
    pub key: &'static str,
    /// Accepted as well, so that the key can be rotated.
    pub second_key: &'static str,
}

/// The checkpoint that control starts with.
pub const CONTROL: Model =
    Model { id: "preview-rc1", key: "sk-demo-control-1", second_key: "sk-demo-control-2" };

/// The checkpoint that candidate starts with.
pub const CANDIDATE: Model =
    Model { id: "preview-rc2", key: "sk-demo-candidate-1", second_key: "sk-demo-candidate-2" };

/// The checkpoint to swap candidate's with.
pub const NEXT_CANDIDATE: Model = Model { id: "preview-rc3", ..CANDIDATE };

/// The model outside of the experiment.
pub const HOUSE: Model =
    Model { id: "house/standard", key: "sk-demo-house-1", second_key: "sk-demo-house-2" };

const MODELS: [Model; 4] = [CONTROL, CANDIDATE, NEXT_CANDIDATE, HOUSE];

/// A call that was answered.
#[derive(Clone, Serialize)]
struct Call {
    request_id: Option<String>,
    /// 1 for the model's first key, 2 for its second.
    key: u8,
    /// The body without its messages.
    body: Map<String, Value>,
}

type Calls = Arc<Mutex<Vec<Call>>>;

/// Starts the upstream on a free port and returns its URL.
///
/// `/v1` is the API, `/calls` lists the calls.
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
        let reason = format!("this key does not open {model}");
        return (StatusCode::UNAUTHORIZED, reason).into_response();
    };
    let messages = body.remove("messages").unwrap_or_default();
    tracing::info!(model, key, fields = ?body.keys().collect::<Vec<_>>(), "upstream called");
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

/// The number of the key that opens the model; `None` for any other.
fn key_number(model: &str, authorization: Option<&str>) -> Option<u8> {
    let presented = authorization?.strip_prefix("Bearer ")?;
    let model = MODELS.iter().find(|known| known.id == model)?;
    match presented {
        key if key == model.key => Some(1),
        key if key == model.second_key => Some(2),
        _ => None,
    }
}

async fn list(State(calls): State<Calls>) -> Json<Vec<Call>> {
    Json(calls.lock().unwrap_or_else(PoisonError::into_inner).clone())
}
