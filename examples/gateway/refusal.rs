//! Error answers to clients, in the format of OpenAI's API.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use model_experiments::serde_json::json;

/// Why a request isn't served. No refusal reveals an experiment: a paused one looks like no model.
pub enum Refusal {
    Malformed(&'static str),
    ModelNotFound(String),
    Unavailable,
    UpstreamFailed,
    UpstreamTimedOut,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, message, code) = match &self {
            Self::Malformed(reason) => (StatusCode::BAD_REQUEST, (*reason).to_owned(), None),
            Self::ModelNotFound(model) => (
                StatusCode::NOT_FOUND,
                format!("the model {model} does not exist"),
                Some("model_not_found"),
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the model is unavailable at the moment".to_owned(),
                None,
            ),
            Self::UpstreamFailed => {
                (StatusCode::BAD_GATEWAY, "the model gave no answer".to_owned(), None)
            }
            Self::UpstreamTimedOut => {
                (StatusCode::GATEWAY_TIMEOUT, "the model gave no answer in time".to_owned(), None)
            }
        };
        let kind = if status.is_client_error() { "invalid_request_error" } else { "server_error" };
        let error = json!({"message": message, "type": kind, "param": null, "code": code});
        let mut response = (status, Json(json!({"error": error}))).into_response();
        if let Self::Unavailable = self {
            response.headers_mut().insert(RETRY_AFTER, 5.into());
        }
        response
    }
}
