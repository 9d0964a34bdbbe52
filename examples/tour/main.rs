//! A tour of the crate: one experiment from draft to completed, through which thousands of requests
//! are replayed.
//!
//! ```text
//! cargo run --release --example tour -- --trace azure_llm_trace.csv
//! ```
//!
//! Without `DATABASE_URL` it starts a private PostgreSQL server and removes it at the end. With
//! `DATABASE_URL` its rows stay in that database.

#[path = "../shared/database.rs"]
mod database;
#[path = "../shared/experiment.rs"]
mod experiment;
mod gateway;
mod operator;
#[path = "../shared/price.rs"]
mod price;
mod report;
mod trace;

use clap::Parser;
use model_experiments::experiments::NewVersion;
use model_experiments::routing::Route;
use model_experiments::values::{PublicModelId, Timestamp};
use model_experiments::{
    ConnectOptions, Recorder, RecorderOptions, RoutingCache, RoutingOptions, experiments,
    migrations,
};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use database::Database;
use gateway::Gateway;
use operator::KeyRotation;
use trace::TraceRequest;

/// Any error ends the tour, so no caller tells causes apart.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Number of generated requests, unless the arguments say otherwise.
const GENERATED: usize = 2_000;

/// How long the recorder may take to write what it holds at the end.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// How many requests are served at the same time.
const CONCURRENCY: usize = 64;

/// Replays LLM requests through an A/B test, from draft to completed.
#[derive(Parser)]
struct Arguments {
    /// Trace to replay: CSV with the columns TIMESTAMP, ContextTokens and GeneratedTokens, as in
    /// the Azure LLM inference traces. Without a trace, requests are generated.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Replay only the first N requests, or generate N requests instead of 2000.
    #[arg(long, value_name = "N")]
    requests: Option<NonZeroUsize>,
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
    // Read before a server starts, so that a bad line leaves nothing behind.
    let trace = requests(&arguments)?;
    let database = Database::find()?;
    let model = experiment::public_model_id("tour")?;
    tour(&database.options("tour")?, &model, &trace).await?;
    if let Database::Given(_) = database {
        println!(
            "The rows are still there:\n  psql \"$DATABASE_URL\" -c \"SELECT * FROM model_experiment \
             WHERE public_model_id = '{}'\"",
            model.as_str()
        );
    }
    Ok(())
}

fn requests(arguments: &Arguments) -> Result<Vec<TraceRequest>> {
    let limit = arguments.requests.map(NonZeroUsize::get);
    match &arguments.trace {
        Some(path) => {
            let mut requests = trace::read(path)?;
            requests.truncate(limit.unwrap_or(usize::MAX));
            println!("Read {} requests of {}", requests.len(), path.display());
            Ok(requests)
        }
        None => {
            let requests = trace::generate(limit.unwrap_or(GENERATED));
            println!("Generated {} synthetic requests; --trace reads real ones", requests.len());
            Ok(requests)
        }
    }
}

async fn tour(
    options: &ConnectOptions,
    model: &PublicModelId,
    trace: &[TraceRequest],
) -> Result<()> {
    let applied = migrations::run(options).await?;
    println!("Applied {} migrations", applied.len());
    let conn = &mut options.connect().await?;
    let routing = RoutingCache::start(options, RoutingOptions::default()).await?;
    let recorder = Recorder::start(options, RecorderOptions::default()).await?;
    let mut gateway = Gateway::new(&recorder, &routing, model, trace.len())?;
    let (before_swap, after_swap) = trace.split_at(trace.len() / 2);
    let (before_pause, after_pause) = after_swap.split_at(after_swap.len() / 2);

    let cipher = experiment::cipher()?;
    let draft = operator::create(conn, &cipher, model).await?;
    let (control, candidate) = (draft.control.variant.id, draft.candidate.variant.id);
    experiments::activate(conn, draft.id).await?;
    println!("{} is an experiment now: control (weight 1), candidate (weight 3)", model.as_str());
    gateway.wait_until(|route| matches!(route, Route::Serve(_))).await?;

    let start = Timestamp::now();
    let served_before = operator::served_key(&gateway, control, &cipher)?;
    let served_before_swap = gateway.replay(before_swap).await?;

    let new_checkpoint = operator::upstream("preview-rc3")?;
    experiments::publish(conn, candidate, NewVersion::keeping_key(&new_checkpoint)).await?;
    let new_key = operator::demonstration_key("control, second");
    let rotated = experiments::rotate_key(conn, control, &cipher.encrypt(&new_key)?).await?;
    gateway.print("Halfway: swapped the checkpoint of candidate, rotated the key of control");
    let is_rotated =
        |route: &Route| matches!(route, Route::Serve(served) if served.version == rotated.id);
    let delay = gateway.wait_until(is_rotated).await?;
    gateway.print(&format!("  routing knew {:.1} ms later", delay.as_secs_f64() * 1_000.0));
    operator::check_rotation(&KeyRotation {
        old_key: &draft.control.api_key,
        new_key: &new_key,
        served_before: &served_before,
        served_after: &operator::served_key(&gateway, control, &cipher)?,
    })?;
    gateway.print("  routing hands out the new key of control instead of the old one");
    gateway.replay(before_pause).await?;

    experiments::pause(conn, draft.id).await?;
    gateway.wait_until(|route| *route == Route::Paused).await?;
    gateway.print("Paused: a gateway would answer 404");
    experiments::activate(conn, draft.id).await?;
    gateway.wait_until(|route| matches!(route, Route::Serve(_))).await?;
    gateway.print("Resumed");
    gateway.replay(after_pause).await?;

    experiments::complete(conn, draft.id).await?;
    gateway.wait_until(|route| *route == Route::NotExperimented).await?;
    gateway.finish();
    println!("Completed: the model id is no longer routed");
    routing.shutdown().await;
    if let Some(lost) = recorder.shutdown(SHUTDOWN).await.into_iter().next() {
        return Err(lost.into());
    }

    let window = start..Timestamp::now();
    println!("{}", report::by_version(conn, &draft, &window, trace.len()).await?);
    println!("{}", report::prove_history(conn, &draft.candidate, &served_before_swap).await?);
    println!("{}", gateway.throughput());
    Ok(())
}
