//! Upstreams that fail in several ways, or answer only when a test lets them.

use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use std::future::pending;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Serves each failure under its own path. The answers reveal more than a client may learn.
pub struct Upstream {
    pub url: String,
    /// A permit for each call of `/held` that has come in.
    pub arrived: Arc<Semaphore>,
    /// A permit for each that may be answered.
    pub released: Arc<Semaphore>,
    /// A permit for each call that followed a redirect.
    pub redirected: Arc<Semaphore>,
}

impl Upstream {
    pub async fn start() -> Self {
        let arrived = Arc::new(Semaphore::new(0));
        let released = Arc::new(Semaphore::new(0));
        let redirected = Arc::new(Semaphore::new(0));
        let held = {
            let (arrived, released) = (Arc::clone(&arrived), Arc::clone(&released));
            async move || {
                arrived.add_permits(1);
                released.acquire().await.unwrap().forget();
                completion()
            }
        };
        let elsewhere = {
            let redirected = Arc::clone(&redirected);
            async move || {
                redirected.add_permits(1);
                completion()
            }
        };
        let failed = "rc9 of the partner failed";
        let app = Router::new()
            .route("/held/chat/completions", post(held))
            .route("/elsewhere", post(elsewhere))
            .route("/redirect/chat/completions", post(async || Redirect::temporary("/elsewhere")))
            .route(
                "/error/chat/completions",
                post(async move || (StatusCode::INTERNAL_SERVER_ERROR, failed)),
            )
            .route(
                "/refusal/chat/completions",
                post(async move || (StatusCode::BAD_REQUEST, Json(json!({"error": failed})))),
            )
            .route("/text/chat/completions", post(async move || failed))
            .route("/other/chat/completions", post(async move || Json(json!({"model": failed}))))
            .route("/silent/chat/completions", post(pending::<StatusCode>));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, arrived, released, redirected }
    }
}

fn completion() -> Json<serde_json::Value> {
    let message = json!({"role": "assistant", "content": "At last."});
    Json(json!({
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }))
}
