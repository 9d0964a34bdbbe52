//! The schema's migrations, embedded in the crate.
//!
//! `diesel migration run` applies the same ones from the repository.

pub(crate) mod history;

use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::time::Duration;

use crate::database::connect::ConnectOptions;
use crate::error::{Cause, Error, Result};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Applies the migrations that the database lacks, and returns their names.
///
/// Services that start together wait for each other: one applies the migrations, and the others
/// find nothing to do. The lock belongs to the session, so that the connection must reach the
/// server itself, not a pooler that shares sessions between transactions.
///
/// # Errors
///
/// [`Error::Migration`] names the migration that failed and says why. Those before it stay applied.
/// Also those of [`ConnectOptions::connect`].
#[tracing::instrument(skip_all)]
pub async fn run(options: &ConnectOptions) -> Result<Vec<String>> {
    let mut conn = connect(options).await?;
    history::lock(&mut conn).await?;
    // Diesel's migrations run on synchronous connections.
    let applied = tokio::task::spawn_blocking(move || {
        let mut conn = AsyncConnectionWrapper::<AsyncPgConnection>::from(conn);
        let mut applied = Vec::new();
        for migration in conn.pending_migrations(MIGRATIONS)? {
            conn.run_migration(&migration)?;
            applied.push(migration.name().to_string());
        }
        Ok(applied)
    });
    applied
        .await
        .map_err(|error| Error::Migration(Cause::of(error)))?
        .map_err(|error| Error::Migration(Cause::of_boxed(error)))
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

/// Connects without a statement timeout, since the wait for another run may be long.
async fn connect(options: &ConnectOptions) -> Result<AsyncPgConnection> {
    options.clone().statement_timeout(Duration::ZERO).connect().await
}
