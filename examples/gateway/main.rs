//! A gateway: an HTTP server with OpenAI's API, which shows how a service uses this crate.
//!
//! ```text
//! cargo run --release --example gateway
//! ```
//!
//! It starts a fake upstream, creates an experiment, and prints commands to try. Without
//! `DATABASE_URL` it starts a private PostgreSQL server and removes it at the end. With
//! `DATABASE_URL`, use a scratch database: the gateway serves every experiment that is active
//! there, but can decrypt only the keys of its own.

mod admin;
mod chat;
mod checkpoint;
#[path = "../shared/database.rs"]
mod database;
mod demonstration;
#[path = "../shared/experiment.rs"]
mod experiment;
mod fake_upstream;
#[path = "../shared/price.rs"]
mod price;
mod refusal;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use clap::Parser;
use metrics_exporter_prometheus::PrometheusBuilder;
use model_experiments::values::ApiKeyCipher;
use model_experiments::{
    Pool, PoolOptions, Recorder, RecorderOptions, RoutingCache, RoutingOptions, experiments,
    migrations,
};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::TaskTracker;

use admin::Operator;
use checkpoint::Checkpoint;
use database::Database;

/// Any error at the start or the end ends the gateway, so no caller tells causes apart.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// How long the recorder may take to write what it holds, once every client is answered.
const SHUTDOWN: Duration = Duration::from_secs(60);

/// Longest request body, in bytes.
const MAX_BODY: usize = 32 << 20;

/// Serves chat requests for a public model id from the checkpoints of an experiment.
#[derive(Parser)]
struct Arguments {
    /// Port of 127.0.0.1 to listen on; 0 picks a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Longest time that the upstream may take to answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    upstream_timeout: u64,
}

/// Shared by all requests.
struct Gateway {
    routing: RoutingCache,
    recorder: Recorder,
    cipher: ApiKeyCipher,
    client: reqwest::Client,
    /// The model that is served without an experiment.
    house: Checkpoint,
    /// Requests under way, which outlive a client that hangs up.
    tasks: TaskTracker,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    // Installed first: the cache and the recorder look up their metrics when they start.
    let metrics = PrometheusBuilder::new().install_recorder()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await?;
    let address = listener.local_addr()?;

    let database = Database::find()?;
    let options = database.options("gateway")?;
    migrations::run(&options).await?;
    let pool = Pool::new(options.clone(), PoolOptions::default().max_size(8))?;
    let cipher = experiment::cipher()?;
    let upstream = fake_upstream::start().await?;
    let demonstration = demonstration::create(&mut *pool.get().await?, &cipher, &upstream).await?;
    let routing = RoutingCache::start(&options, RoutingOptions::default()).await?;
    let recorder = Recorder::start(&options, RecorderOptions::default()).await?;

    let operator = Operator::new(demonstration.id, pool.clone(), cipher.clone());
    demonstration::print_commands(address, &upstream, &demonstration, &routing, &operator);
    let gateway = Arc::new(Gateway {
        routing,
        recorder,
        cipher,
        client: client(Duration::from_secs(arguments.upstream_timeout))?,
        house: demonstration::house(&upstream)?,
        tasks: TaskTracker::new(),
    });
    let app = Router::new()
        .route("/v1/chat/completions", post(chat::completions))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::clone(&gateway))
        .nest("/admin", admin::router(operator))
        .route("/metrics", get(async move || metrics.render()))
        .into_make_service_with_connect_info::<SocketAddr>();
    let shutdown_signal = async move {
        tokio::select! {
            _ = ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    axum::serve(listener, app).with_graceful_shutdown(shutdown_signal).await?;

    // Every client is answered, but some answers may not be recorded yet.
    gateway.tasks.close();
    gateway.tasks.wait().await;
    for lost in gateway.recorder.shutdown(SHUTDOWN).await {
        tracing::error!(error = %lost, "not recorded at shutdown");
    }
    gateway.routing.shutdown().await;
    // Unlike a real gateway, this one takes its upstream down with it.
    experiments::complete(&mut *pool.get().await?, demonstration.id).await?;
    Ok(())
}

fn client(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(timeout)
        // A redirect would send the key to another host.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
}
