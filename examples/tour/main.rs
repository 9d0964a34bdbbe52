//! A tour of the crate: one experiment from draft to completed, with thousands of requests replayed through
//! it.
//!
//! ```text
//! cargo run --release --example tour -- --trace azure_llm_trace.csv
//! ```
//!
//! Without `DATABASE_URL` it starts a PostgreSQL server of its own, which is gone afterwards. With it, it
//! leaves what it made in that database, to be looked at.

#[path = "../shared/database.rs"]
mod database;
mod gateway;
mod operator;
mod report;
mod trace;

use clap::Parser;
use model_experiments::routing::Route;
use model_experiments::values::{PublicModelId, Timestamp};
use model_experiments::{
    Recorder, RecorderOptions, RoutingCache, RoutingOptions, connection, experiments, migrations,
};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use uuid::Uuid;

use database::Database;
use gateway::Gateway;
use trace::TraceRequest;

/// Whatever goes wrong ends the tour, so nobody tells the causes apart.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// How many requests the generator makes unless told.
const GENERATED: usize = 2_000;

/// How long writing what was served may take at the end.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// How many requests are served at a time.
const CONCURRENCY: usize = 64;

/// Replays LLM requests through an A/B test, from draft to completed.
#[derive(Parser)]
struct Arguments {
    /// A trace to replay: CSV with the columns TIMESTAMP, ContextTokens and GeneratedTokens, as in the Azure
    /// LLM inference traces. Without it, requests are generated.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Replay only the first N requests. Of generated ones there are 2000 unless this says otherwise.
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
    // The whole trace, before there is a server: a bad line must leave nothing behind.
    let trace = requests(&arguments)?;
    let database = Database::find()?;
    let model = model_of_this_run()?;
    tour(&database.url(), &model, &trace).await?;
    if let Database::Given(_) = database {
        println!(
            "It is all still there:\n  psql \"$DATABASE_URL\" -c \"SELECT * FROM model_experiment \
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
            println!("Generated {} synthetic requests; --trace takes real ones", requests.len());
            Ok(requests)
        }
    }
}

/// Another one each time, so that the tour can be taken again on the same database, even after one that
/// was interrupted.
fn model_of_this_run() -> Result<PublicModelId> {
    let id = Uuid::now_v7().simple().to_string();
    // A UUIDv7 begins with the time and ends with random digits.
    Ok(PublicModelId::new(format!("tour/preview-{}", &id[24..]))?)
}

async fn tour(url: &str, model: &PublicModelId, trace: &[TraceRequest]) -> Result<()> {
    let applied = migrations::run(url).await?;
    println!("Applied {} migrations", applied.len());
    let conn = &mut connect(url).await?;
    let routing = RoutingCache::start(url, RoutingOptions::default()).await?;
    let recorder = Recorder::start(url, RecorderOptions::default()).await?;
    let mut gateway = Gateway::new(&recorder, &routing, model, trace.len())?;
    let (before_swap, after_swap) = trace.split_at(trace.len() / 2);
    let (before_pause, after_pause) = after_swap.split_at(after_swap.len() / 2);

    let cipher = operator::demonstration_cipher()?;
    let (experiment, [control, candidate]) = operator::create(conn, &cipher, model).await?;
    experiments::activate(conn, experiment).await?;
    println!("{} is an experiment now: control (weight 1), candidate (weight 3)", model.as_str());
    gateway.until(|route| matches!(route, Route::Serve(_))).await?;

    let start = Timestamp::now();
    let old_key = operator::key_of(&gateway, control.variant.id, &cipher)?;
    let served = gateway.replay(before_swap).await?;

    let new_checkpoint = operator::upstream("preview-rc3")?;
    experiments::publish(conn, candidate.variant.id, NewVersion::keeping_key(&new_checkpoint))
        .await?;
    let new_key = operator::demonstration_key("control, second");
    let rotated =
        experiments::rotate_key(conn, control.variant.id, &cipher.encrypt(&new_key)?).await?;
    gateway.say("Halfway: candidate serves another checkpoint, control has another API key");
    let took = gateway
        .until(|route| matches!(route, Route::Serve(served) if served.version == rotated.id))
        .await?;
    gateway.say(&format!("  the gateway knew {:.1} ms later", took.as_secs_f64() * 1_000.0));
    let is_key = operator::key_of(&gateway, control.variant.id, &cipher)?;
    operator::check_rotation((&old_key, &control.key), (&is_key, &new_key))?;
    gateway.say("  control is called with the new key; before, it was called with the old one");
    gateway.replay(before_pause).await?;

    experiments::pause(conn, experiment).await?;
    gateway.until(|route| *route == Route::Paused).await?;
    gateway.say("Paused: routing says so, and a gateway answers 404");
    experiments::activate(conn, experiment).await?;
    gateway.until(|route| matches!(route, Route::Serve(_))).await?;
    gateway.say("Resumed");
    gateway.replay(after_pause).await?;

    experiments::complete(conn, experiment).await?;
    gateway.until(|route| *route == Route::NotExperimented).await?;
    gateway.finish();
    println!("Completed: routing says that nothing is experimented with any more");
    routing.shutdown().await;
    if let Some(lost) = recorder.shutdown(SHUTDOWN).await.into_iter().next() {
        return Err(lost.into());
    }

    let arms = [&control.variant, &candidate.variant];
    let window = start.into()..Timestamp::now().into();
    println!("{}", report::by_version(conn, experiment, arms, window, trace.len()).await?);
    println!("{}", report::prove_history(conn, &candidate, &served).await?);
    println!("{}", gateway.throughput());
    Ok(())
}
