//! `POST /v1/chat/completions`: who serves it, the call, and what the client learns of it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use model_experiments::recording::{NewRequest, Record, Usage};
use model_experiments::routing::{Route, Served, Subject};
use model_experiments::values::{PromptCapture, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use uuid::Uuid;

use crate::Gateway;
use crate::checkpoint::{Checkpoint, Choice, Completion, Failure, Tokens};
use crate::refusal::Refusal;

/// Microdollars for a token of the prompt, and for one of the answer.
const PRICES: [u32; 2] = [3, 15];

/// The longest id of a user or a machine, in bytes.
const MAX_ID: usize = 256;

const ODD_ID: &str = "a user or machine id must be short, of characters that can be shown";

/// A completion as the client sees it.
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
            // Not by this future, which is dropped when the client hangs up: what the upstream answers is recorded.
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
    let subject = Subject::first_of(request.user()?, request.header("x-machine-id")?, Some(&ip));
    let outcome = match gateway.routing.pick(model, subject) {
        Route::Serve(served) => {
            let outcome = call(&gateway, &served, request.id, body).await;
            let billed = subject.map_or_else(String::new, |subject| subject.value().to_owned());
            let record = recordable(&request, model, billed, &served, outcome.as_ref().ok());
            // The client waits neither for the commit, of which the recorder says when it fails for good, nor for room
            // in an outage: a service that must lose nothing has a place for what isn't taken.
            if let Err(refused) = gateway.recorder.try_submit(record) {
                tracing::error!(request = %request.id, error = %refused, "not even tried to record");
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
            tracing::error!(request = %request.id, %reason, "can't be served");
            return Err(Refusal::Unavailable);
        }
    };
    match outcome {
        Ok(completion) => Ok(Answer::new(&request, model, completion)),
        Err(failure) => {
            tracing::error!(request = %request.id, %failure, "the upstream failed");
            Err(match failure.is_timeout() {
                true => Refusal::UpstreamTimedOut,
                false => Refusal::UpstreamFailed,
            })
        }
    }
}

/// Calls the checkpoint that serves the request. Its key is decrypted for this call alone.
async fn call(
    gateway: &Gateway,
    served: &Served,
    id: Uuid,
    body: &Map<String, Value>,
) -> Result<Completion, Failure> {
    let key = gateway.cipher.decrypt(served.key())?;
    let checkpoint = Checkpoint { upstream: served.upstream().clone(), key };
    checkpoint.complete(&gateway.client, id, body).await
}

/// What is recorded of a request, which got no completion if it failed.
fn recordable(
    request: &Request,
    model: &str,
    billed: String,
    served: &Served,
    completion: Option<&Completion>,
) -> Record {
    let tokens = completion.and_then(|completion| completion.usage).unwrap_or_default();
    let [input_price, output_price] = PRICES.map(i64::from);
    let (input_tokens, output_tokens) =
        (i64::from(tokens.prompt_tokens), i64::from(tokens.completion_tokens));
    let usage = Usage {
        cost: input_tokens * input_price + output_tokens * output_price,
        input_tokens,
        output_tokens,
        model: Some(served.upstream().internal_id().to_owned()),
        requested_model: Some(model.to_owned()),
        has_error: completion.is_none(),
        ..Usage::new(billed)
    };
    let new = NewRequest::new(served.version, served.subject)
        .client_request_id(request.id.to_string())
        .prompt(&PromptCapture::of(&request.body));
    Record::new(usage, new)
}

impl Request {
    /// The model that is asked for, and all fields of the body.
    fn check(&self) -> Result<(&str, &Map<String, Value>), Refusal> {
        let body = self.body.as_object().ok_or(Refusal::Malformed("the body must be an object"))?;
        match body.get("stream") {
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(_) => return Err(Refusal::Malformed("stream is not supported; leave it out")),
        }
        let model = body.get("model").and_then(Value::as_str);
        Ok((model.ok_or(Refusal::Malformed("model must be a text"))?, body))
    }

    /// The user: by the header that an authentication in front of this server would set, else as the client says.
    fn user(&self) -> Result<Option<&str>, Refusal> {
        let claimed = || identifier(self.body.get("user").and_then(Value::as_str));
        self.header("x-user-id")?.map_or_else(claimed, |user| Ok(Some(user)))
    }

    fn header(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let value = self.headers.get(name).map(|value| value.to_str()).transpose();
        identifier(value.map_err(|_| Refusal::Malformed(ODD_ID))?)
    }
}

/// Refuses what couldn't be recorded.
fn identifier(id: Option<&str>) -> Result<Option<&str>, Refusal> {
    match id {
        Some(id) if id.len() > MAX_ID || id.contains(char::is_control) => {
            Err(Refusal::Malformed(ODD_ID))
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
