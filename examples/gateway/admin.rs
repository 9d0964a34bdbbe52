//! The operator's API: publish a version, rotate a key, pause, resume, and show a summary.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use model_experiments::experiments::{self, NewVersion};
use model_experiments::reports::summary::{self, VersionSummary};
use model_experiments::secrecy::SecretString;
use model_experiments::serde_json::{Map, Value};
use model_experiments::uuid::Uuid;
use model_experiments::values::{ApiKeyCipher, ExperimentId, Timestamp, Upstream, VersionId};
use model_experiments::{Error, Pool};
use serde::Deserialize;
use std::sync::Arc;

/// The operator of one experiment.
pub struct Operator {
    experiment: ExperimentId,
    pool: Pool,
    cipher: ApiKeyCipher,
    authorization: String,
}

/// A version to publish. Without a key it keeps the previous version's.
#[derive(Deserialize)]
struct Publication {
    api_key: Option<String>,
    #[serde(flatten)]
    upstream: Map<String, Value>,
}

/// Why an operation was refused.
struct Refused {
    status: StatusCode,
    reason: String,
}

impl Operator {
    /// An operator with a new random token.
    pub fn new(experiment: ExperimentId, pool: Pool, cipher: ApiKeyCipher) -> Self {
        let authorization = format!("Bearer {}", Uuid::now_v7().simple());
        Self { experiment, pool, cipher, authorization }
    }

    /// The required value of the header `Authorization`.
    pub fn authorization(&self) -> &str {
        &self.authorization
    }
}

/// The routes, each of which asks for the operator's token.
pub fn router(operator: Operator) -> Router {
    let operator = Arc::new(operator);
    Router::new()
        .route("/variants/{label}/versions", post(publish))
        .route("/pause", post(pause))
        .route("/resume", post(resume))
        .route("/summary", get(summarise))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&operator), authorised))
        .with_state(operator)
}

async fn authorised(
    State(operator): State<Arc<Operator>>,
    request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    match request.headers().get(AUTHORIZATION) {
        Some(value) if *value == operator.authorization => Ok(next.run(request).await),
        _ => Err(StatusCode::UNAUTHORIZED),
    }
}

async fn publish(
    State(operator): State<Arc<Operator>>,
    Path(label): Path<String>,
    Json(new): Json<Publication>,
) -> Result<Json<VersionId>, Refused> {
    let upstream = Upstream::from_json(Value::Object(new.upstream))?;
    let api_key = new.api_key.map(SecretString::from);
    let key = api_key.map(|api_key| operator.cipher.encrypt(&api_key)).transpose()?;
    let new = match &key {
        Some(key) => NewVersion::with_key(&upstream, key),
        None => NewVersion::keeping_key(&upstream),
    };
    let conn = &mut operator.pool.get().await?;
    let variants = experiments::list_variants(conn, operator.experiment).await?;
    let variant =
        variants.iter().find(|variant| variant.label.as_str() == label).ok_or_else(|| Refused {
            status: StatusCode::NOT_FOUND,
            reason: format!("there is no variant {label}"),
        })?;
    let version = experiments::publish(conn, variant.id, new).await?;
    tracing::info!(label, version = %version.id, "published");
    Ok(Json(version.id))
}

async fn pause(State(operator): State<Arc<Operator>>) -> Result<(), Refused> {
    experiments::pause(&mut *operator.pool.get().await?, operator.experiment).await?;
    Ok(())
}

async fn resume(State(operator): State<Arc<Operator>>) -> Result<(), Refused> {
    experiments::activate(&mut *operator.pool.get().await?, operator.experiment).await?;
    Ok(())
}

async fn summarise(
    State(operator): State<Arc<Operator>>,
) -> Result<Json<Vec<VersionSummary>>, Refused> {
    let conn = &mut operator.pool.get().await?;
    let experiment = experiments::find(conn, operator.experiment)
        .await?
        .ok_or(Error::ExperimentNotFound(operator.experiment))?;
    let window = experiment.created_at..Timestamp::now();
    Ok(Json(summary::by_version(conn, experiment.id, &window).await?))
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        let error = error.into();
        let status = match &error {
            Error::Invalid(_) | Error::Cipher(_) => StatusCode::BAD_REQUEST,
            error if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::CONFLICT,
        };
        Self { status, reason: error.to_string() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, self.reason).into_response()
    }
}
