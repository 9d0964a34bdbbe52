//! `POST /v1/chat/completions`: route the request, call the upstream, answer, and record.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use model_experiments::recording::{NewRequest, Record, Usage};
use model_experiments::routing::{Route, Served, Subject};
use model_experiments::serde_json::{self, Map, Value};
use model_experiments::uuid::Uuid;
use model_experiments::values::{PromptCapture, Timestamp};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::Gateway;
use crate::checkpoint::{Checkpoint, Choice, Completion, Failure, Tokens};
use crate::price::cost;
use crate::refusal::Refusal;

/// The longest id of a user or a machine, in bytes.
const MAX_ID: usize = 256;

const INVALID_ID: &str = "a user or machine id must be short and printable";

/// A completion as the client sees it: it never names what served it.
#[derive(Serialize)]
struct Answer {
    id: String,
    object: &'static str,
    created: i64,
    model: String,
    choices: Vec<Choice>,
    usage: Tokens,
}

/// A client's request.
struct Request {
    id: Uuid,
    headers: HeaderMap,
    ip: IpAddr,
    body: Value,
}

/// Serves a chat request.
pub async fn completions(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let id = Uuid::now_v7();
    let answer = match serde_json::from_slice(&body) {
        Ok(body) => {
            let request = Request { id, headers, ip: peer.ip(), body };
            // A task of its own: this future is dropped when the client hangs up.
            let serving = gateway.tasks.spawn(serve(Arc::clone(&gateway), request));
            serving.await.unwrap_or(Err(Refusal::UpstreamFailed))
        }
        Err(_) => Err(Refusal::Malformed("the body must be JSON")),
    };
    ([("x-request-id", id.to_string())], answer.map(Json)).into_response()
}

async fn serve(gateway: Arc<Gateway>, request: Request) -> Result<Answer, Refusal> {
    let (model, body) = request.check()?;
    let ip = request.ip.to_canonical().to_string();
    let subject = Subject::user(request.user()?)
        .or_machine(request.header("x-machine-id")?)
        .or_ip(ip.as_str());
    let outcome = match gateway.routing.pick(model, subject) {
        Route::Serve(served) => {
            let outcome = call(&gateway, &served, request.id, body).await;
            let record = record(&request, model, subject, &served, outcome.as_ref().ok());
            // The client doesn't wait for the commit. The recorder logs a record that it gives up.
            // A service that must lose nothing stores a record that the full recorder refuses.
            if let Err(refused) = gateway.recorder.try_submit(record) {
                tracing::error!(request = %request.id, error = %refused, "request not recorded");
            }
            outcome
        }
        Route::NotExperimented if model == gateway.house.upstream.internal_id() => {
            gateway.house.complete(&gateway.client, request.id, body).await
        }
        Route::NotExperimented | Route::Paused => {
            return Err(Refusal::ModelNotFound(model.to_owned()));
        }
        Route::Unavailable(reason) => {
            tracing::error!(request = %request.id, %reason, "routing unavailable");
            return Err(Refusal::Unavailable);
        }
    };
    match outcome {
        Ok(completion) => Ok(Answer::new(&request, model, completion)),
        Err(failure) => {
            tracing::error!(request = %request.id, %failure, "upstream failed");
            Err(match failure.is_timeout() {
                true => Refusal::UpstreamTimedOut,
                false => Refusal::UpstreamFailed,
            })
        }
    }
}

/// Calls the checkpoint that serves the request. Its key is decrypted for this call only.
async fn call(
    gateway: &Gateway,
    served: &Served,
    id: Uuid,
    body: &Map<String, Value>,
) -> Result<Completion, Failure> {
    let api_key = served.api_key(&gateway.cipher)?;
    let checkpoint = Checkpoint { upstream: served.upstream().clone(), api_key };
    checkpoint.complete(&gateway.client, id, body).await
}

/// The record of a request. Without a completion, the upstream failed.
fn record(
    request: &Request,
    model: &str,
    subject: Subject<'_>,
    served: &Served,
    completion: Option<&Completion>,
) -> Record {
    let tokens = completion.and_then(|completion| completion.usage).unwrap_or_default();
    let usage = Usage {
        cost: cost(tokens.prompt_tokens, tokens.completion_tokens),
        input_tokens: tokens.prompt_tokens.into(),
        output_tokens: tokens.completion_tokens.into(),
        model: Some(served.upstream().internal_id().to_owned()),
        requested_model: Some(model.to_owned()),
        has_error: completion.is_none(),
        ..Usage::new(subject.value().unwrap_or_default())
    };
    let new_request = NewRequest::served_by(served)
        .client_request_id(request.id.to_string())
        .prompt(&PromptCapture::of(&request.body));
    Record::new(usage, new_request)
}

impl Request {
    /// The requested model and the body's fields, if the gateway supports the request.
    fn check(&self) -> Result<(&str, &Map<String, Value>), Refusal> {
        let body = self.body.as_object().ok_or(Refusal::Malformed("the body must be an object"))?;
        match body.get("stream") {
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(_) => return Err(Refusal::Malformed("stream is not supported; leave it out")),
        }
        let model = body.get("model").and_then(Value::as_str);
        Ok((model.ok_or(Refusal::Malformed("model must be a text"))?, body))
    }

    /// The user id: from the header that an authenticating proxy sets, or else from the body.
    fn user(&self) -> Result<Option<&str>, Refusal> {
        let claimed = || identifier(self.body.get("user").and_then(Value::as_str));
        self.header("x-user-id")?.map_or_else(claimed, |user| Ok(Some(user)))
    }

    fn header(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let value = self.headers.get(name).map(|value| value.to_str()).transpose();
        identifier(value.map_err(|_| Refusal::Malformed(INVALID_ID))?)
    }
}

/// Refuses an id that is too long or not printable.
fn identifier(id: Option<&str>) -> Result<Option<&str>, Refusal> {
    match id {
        Some(id) if id.len() > MAX_ID || id.contains(char::is_control) => {
            Err(Refusal::Malformed(INVALID_ID))
        }
        id => Ok(id),
    }
}

impl Answer {
    fn new(request: &Request, model: &str, completion: Completion) -> Self {
        Self {
            id: format!("chatcmpl-{}", request.id.simple()),
            object: "chat.completion",
            created: Timestamp::now().as_datetime().timestamp(),
            model: model.to_owned(),
            choices: completion.choices,
            usage: completion.usage.unwrap_or_default(),
        }
    }
}
