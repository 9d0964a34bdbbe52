//! A gateway: an HTTP server with an API as OpenAI's, which shows how a real one links this crate.
//!
//! ```text
//! cargo run --release --example gateway
//! ```
//!
//! It brings an upstream and an experiment to try it on, and prints what to try. Without `DATABASE_URL` it starts a
//! PostgreSQL server of its own, which is gone afterwards. With it, take a database that is there to try things: it serves
//! every experiment that is active there, and knows no key but its own.

mod admin;
mod chat;
mod checkpoint;
#[path = "../shared/database.rs"]
mod database;
mod demonstration;
mod fake_upstream;
mod refusal;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use clap::Parser;
use metrics_exporter_prometheus::PrometheusBuilder;
use model_experiments::values::ApiKeyCipher;
use model_experiments::{
    Pool, Recorder, RecorderOptions, RoutingCache, RoutingOptions, experiments, migrations,
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

/// Whatever goes wrong at the start or the end ends the gateway, so nobody tells the causes apart.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// How long recording may take once every client is answered, as in an outage.
const SHUTDOWN: Duration = Duration::from_secs(60);

/// The longest request body, in bytes.
const MAX_BODY: usize = 32 << 20;

/// Serves chat requests for a public model id by the checkpoints of an experiment.
#[derive(Parser)]
struct Arguments {
    /// The port of 127.0.0.1 to listen on; 0 takes one that is free.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// How long an upstream may take to answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    upstream_timeout: u64,
}

/// What every request is served with.
struct Gateway {
    routing: RoutingCache,
    recorder: Recorder,
    cipher: ApiKeyCipher,
    client: reqwest::Client,
    /// The one model that isn't experimented with.
    house: Checkpoint,
    /// What goes on when its client was answered, or has hung up.
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
    // Before the cache starts, which looks its metrics up once.
    let metrics = PrometheusBuilder::new().install_recorder()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await?;
    let address = listener.local_addr()?;

    let database = Database::find()?;
    let url = database.url();
    migrations::run(&url).await?;
    let pool = Pool::builder(&url).max_size(8).application_name("gateway").build()?;
    let cipher = demonstration::cipher()?;
    let upstream = fake_upstream::start().await?;
    let experiment = demonstration::create(&mut *pool.get().await?, &cipher, &upstream).await?;
    let routing =
        RoutingCache::start(&url, RoutingOptions::default().application_name("gateway")).await?;
    let recorder =
        Recorder::start(&url, RecorderOptions::default().application_name("gateway")).await?;

    let operator = Operator::new(experiment.id, pool.clone(), cipher.clone());
    demonstration::say_what_to_try(address, &upstream, &experiment, &routing, &operator);
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
    let told_to_end = async move {
        tokio::select! {
            _ = ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    axum::serve(listener, app).with_graceful_shutdown(told_to_end).await?;

    // Every client is answered. What they were answered may still have to be recorded.
    gateway.tasks.close();
    gateway.tasks.wait().await;
    for lost in gateway.recorder.shutdown(SHUTDOWN).await {
        tracing::error!(error = %lost, "given up at the end");
    }
    gateway.routing.shutdown().await;
    // A real gateway leaves experiments alone; this one's upstream ends with it.
    experiments::complete(&mut *pool.get().await?, experiment.id).await?;
    Ok(())
}

fn client(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(timeout)
        // A key is meant for the upstream alone.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
}
