//! The schema's migrations, embedded in the crate.
//!
//! `diesel migration run` applies the same ones from the repository.

mod apply;
pub(crate) mod history;

use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel_async::AsyncPgConnection;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use std::time::{Duration, Instant};
use tokio::time::sleep;

use crate::database::backoff::{MAX_DELAY, backoff};
use crate::database::connect::{ConnectOptions, answered};
use crate::database::migrations::apply::{Failure, apply_pending};
use crate::database::server::server_role;
use crate::database::target::TargetSession;
use crate::error::{Cause, Error, Result, Transient};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// The longest wait for another run of migrations, and for a server that takes writes.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// The wait for a lock after which its holder is logged.
const SILENT_WAIT: Duration = Duration::from_secs(1);

/// The longest wait for an answer about what is applied.
const MAX_ANSWER: Duration = Duration::from_secs(30);

/// Applies the migrations that the database lacks, and returns their names.
///
/// Services that start together wait for each other, for up to 5 minutes: each migration is applied
/// by one, and the others find it done. They wait for a lock on Diesel's own table, which is
/// released with each migration's transaction. A wait of more than a second is logged, with the
/// process id of the session that holds the lock.
///
/// Where nothing is pending, nothing is written, created or locked. So the call succeeds on a
/// standby, and for a role that may only read Diesel's table.
///
/// When the connection is lost, or the server takes no writes, the call connects anew and goes on,
/// for up to 5 minutes. A migration whose commit was under way is then missing from the names.
///
/// It connects to the primary, or to a standby to see that nothing is pending. A migration itself
/// has no time limit. Its connection counts as lost where its server freezes; a pooler isn't asked
/// whether it did.
///
/// # Errors
///
/// - [`Error::Migration`] names the migration that failed and says why. Those before it stay
///   applied.
/// - [`Error::Locked`] names the session that has kept the lock for longer than the wait.
/// - [`Error::Transient`] when the database can't be reached at first, or no longer within the
///   wait.
///
/// Also those of [`ConnectOptions::connect`].
pub async fn run(options: &ConnectOptions) -> Result<Vec<String>> {
    run_within(options, MAX_WAIT).await
}

/// Applies the migrations that the database lacks, as [`run`] does, and waits for up to `wait`, to
/// the millisecond.
///
/// # Errors
///
/// Those of [`run`].
#[tracing::instrument(skip_all)]
pub async fn run_within(options: &ConnectOptions, wait: Duration) -> Result<Vec<String>> {
    let deadline = Instant::now() + wait;
    let mut conn = Some(connect_to_any(options).await?);
    let mut applied = Vec::new();
    let mut lock_wait = SILENT_WAIT;
    let mut delays = backoff();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let outcome = attempt(options, conn.take(), lock_wait.min(left), &mut applied).await;
        let Err(error) = outcome else { return Ok(applied) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !error.is_retryable() {
            return Err(error);
        }
        if let Error::Locked { holder, .. } = &error {
            tracing::info!(holder, wait = ?left, "waiting for who has locked the migrations");
            lock_wait = left;
        } else {
            tracing::warn!(%error, "migrations are interrupted, and will go on");
        }
        sleep(delays.next().unwrap_or(MAX_DELAY).min(left)).await;
    }
}

/// Applies what is pending, over `conn` or over a new connection, and adds the names to `applied`.
async fn attempt(
    options: &ConnectOptions,
    conn: Option<AsyncPgConnection>,
    wait: Duration,
    applied: &mut Vec<String>,
) -> Result<()> {
    let mut conn = match conn {
        Some(conn) => conn,
        None => connect_to_any(options).await?,
    };
    let pending = answered(MAX_ANSWER, pending_on(&mut conn)).await?;
    if pending.is_empty() {
        return Ok(());
    }
    if answered(MAX_ANSWER, server_role(&mut conn)).await?.is_standby {
        conn = connect(options).await?;
    }
    // Diesel's migrations run on synchronous connections.
    let apply = move || {
        let mut applied = Vec::new();
        let outcome = apply_pending(conn, MIGRATIONS, &pending, wait, &mut applied);
        (applied, outcome)
    };
    let (names, outcome) = tokio::task::spawn_blocking(apply)
        .await
        .map_err(|error| Error::Migration(Cause::of(error)))?;
    applied.extend(names);
    match outcome {
        Ok(()) => Ok(()),
        Err(Failure::Record(error)) => Err(locked(options, error.into()).await?),
        Err(Failure::Lost(error)) => {
            Err(Error::transient(Transient::ConnectionLost, Cause::of_boxed(error)))
        }
        Err(Failure::Migration(error)) => Err(Error::Migration(Cause::of_boxed(error))),
    }
}

/// The error of a record that couldn't be locked. A holder also tells a timeout where the server's
/// language isn't known.
async fn locked(options: &ConnectOptions, error: Error) -> Result<Error> {
    let (is_timeout, cause) = match error {
        Error::Transient { kind: Transient::LockTimeout, cause } => (true, cause),
        Error::Database(cause) => (false, cause),
        error => return Ok(error),
    };
    let conn = &mut connect(options).await?;
    let holder = answered(MAX_ANSWER, history::lock_holder(conn)).await?;
    Ok(match holder {
        None if !is_timeout => Error::Database(cause),
        holder => Error::Locked { holder, cause },
    })
}

/// The names of the migrations that the database lacks, in order. Nothing is applied or written.
///
/// # Errors
///
/// Those of [`ConnectOptions::connect`].
#[tracing::instrument(skip_all)]
pub async fn pending(options: &ConnectOptions) -> Result<Vec<String>> {
    answered(MAX_ANSWER, pending_on(&mut connect_to_any(options).await?)).await
}

async fn pending_on(conn: &mut AsyncPgConnection) -> Result<Vec<String>> {
    let applied = history::applied(conn).await?;
    let migrations = MigrationSource::<Pg>::migrations(&MIGRATIONS)
        .map_err(|error| Error::Migration(Cause::of_boxed(error)))?;
    let mut pending: Vec<_> = migrations
        .iter()
        .filter(|migration| !applied.contains(&migration.name().version().to_string()))
        .map(|migration| migration.name().to_string())
        .collect();
    pending.sort_unstable();
    Ok(pending)
}

/// Connects to the primary, without a statement timeout, since a migration may take long.
async fn connect(options: &ConnectOptions) -> Result<AsyncPgConnection> {
    options.clone().primary().statement_timeout(Duration::ZERO).connect().await
}

/// Connects to the primary, or to another server that says what is applied.
async fn connect_to_any(options: &ConnectOptions) -> Result<AsyncPgConnection> {
    match connect(options).await {
        Err(error) if error.is_retryable() => {
            let any = options.clone().target_session(TargetSession::Any);
            any.connect().await.map_err(|_| error)
        }
        connected => connected,
    }
}
