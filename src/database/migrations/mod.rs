//! The schema's migrations, embedded in the crate.
//!
//! `diesel migration run` applies the same ones from the repository.

mod apply;
pub(crate) mod history;

use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel_async::AsyncPgConnection;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use std::time::Duration;

use crate::database::connect::ConnectOptions;
use crate::database::migrations::apply::{Failure, apply_pending};
use crate::error::{Cause, Error, Result, Transient};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// The longest wait for another run of migrations.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Applies the migrations that the database lacks, and returns their names.
///
/// Services that start together wait for each other, for up to 5 minutes: each migration is applied
/// by one, and the others find it done. They wait for a lock on Diesel's own table, which only a
/// role that may write that table can take.
///
/// # Errors
///
/// [`Error::Migration`] names the migration that failed and says why. Those before it stay applied.
/// [`Error::Locked`] names the session that has kept the lock for longer than the wait. Also those
/// of [`ConnectOptions::connect`].
pub async fn run(options: &ConnectOptions) -> Result<Vec<String>> {
    run_within(options, MAX_WAIT).await
}

/// Applies the migrations that the database lacks, as [`run`] does, and waits for up to `wait` for
/// another run, to the millisecond.
///
/// # Errors
///
/// Those of [`run`].
#[tracing::instrument(skip_all)]
pub async fn run_within(options: &ConnectOptions, wait: Duration) -> Result<Vec<String>> {
    let conn = connect(options).await?;
    // Diesel's migrations run on synchronous connections.
    let applied = tokio::task::spawn_blocking(move || apply_pending(conn, MIGRATIONS, wait));
    match applied.await.map_err(|error| Error::Migration(Cause::of(error)))? {
        Ok(applied) => Ok(applied),
        Err(Failure::Migration(error)) => Err(Error::Migration(Cause::of_boxed(error))),
        Err(Failure::Lock(error)) => match error.into() {
            Error::Transient { kind: Transient::LockTimeout, cause } => {
                let holder = history::lock_holder(&mut connect(options).await?).await?;
                Err(Error::Locked { holder, cause })
            }
            error => Err(error),
        },
    }
}

/// The names of the migrations that the database lacks, in order. Nothing is applied or written.
///
/// # Errors
///
/// Those of [`ConnectOptions::connect`].
#[tracing::instrument(skip_all)]
pub async fn pending(options: &ConnectOptions) -> Result<Vec<String>> {
    let conn = &mut connect(options).await?;
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

/// Connects without a statement timeout, since a migration may take long.
async fn connect(options: &ConnectOptions) -> Result<AsyncPgConnection> {
    options.clone().statement_timeout(Duration::ZERO).connect().await
}
