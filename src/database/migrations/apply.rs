//! Applies migrations one at a time, each with the record of migrations locked.

use diesel::Connection;
use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationConnection, MigrationSource};
use diesel::pg::Pg;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_async::pooled_connection::PoolableConnection;
use diesel_migrations::MigrationHarness;
use std::time::{Duration, Instant};

use crate::database::migrations::history::TABLE;

type Conn = AsyncConnectionWrapper<AsyncPgConnection>;

/// Attempts to create Diesel's table. Each can lose against another session.
const MAX_CREATIONS: usize = 5;

/// Why a run of migrations ended early.
pub(super) enum Failure {
    /// The record of migrations couldn't be created or locked.
    Record(DieselError),
    /// A migration failed because its connection was lost.
    Lost(Box<dyn std::error::Error + Send + Sync>),
    /// A migration failed, or the record of them.
    Migration(Box<dyn std::error::Error + Send + Sync>),
}

impl From<DieselError> for Failure {
    fn from(error: DieselError) -> Self {
        Self::Migration(Box::new(error))
    }
}

/// Applies the migrations of `source` that have the names `pending`, in this order, and adds the
/// names of those that it applied to `applied`. Waits for each lock for up to `wait`.
pub(super) fn apply_pending(
    conn: AsyncPgConnection,
    source: impl MigrationSource<Pg>,
    pending: &[String],
    wait: Duration,
    applied: &mut Vec<String>,
) -> Result<(), Failure> {
    let conn = &mut Conn::from(conn);
    create_record(conn, wait)?;
    let migrations = source.migrations().map_err(Failure::Migration)?;
    for name in pending {
        let Some(migration) = migrations.iter().find(|of| of.name().to_string() == *name) else {
            continue;
        };
        let is_applied = conn.transaction(|conn| apply(conn, migration, wait));
        if is_applied.map_err(|failure| of_connection(conn, failure))? {
            applied.push(name.clone());
        }
    }
    Ok(())
}

/// Creates Diesel's table. Of two sessions that create it at once, one waits and is refused, with
/// one error or another. Diesel's own harness neither locks nor retries.
fn create_record(conn: &mut Conn, wait: Duration) -> Result<(), Failure> {
    let start = Instant::now();
    let mut creations = 1;
    loop {
        let created = conn.transaction(|conn| {
            conn.batch_execute(&begin(wait))?;
            conn.setup()
        });
        match created {
            Ok(_) => return Ok(()),
            Err(DieselError::DatabaseError(
                DatabaseErrorKind::UniqueViolation | DatabaseErrorKind::Unknown,
                _,
            )) if creations < MAX_CREATIONS && start.elapsed() < wait => creations += 1,
            Err(error) => return Err(Failure::Record(error)),
        }
    }
}

/// The transaction's settings, whatever the session's defaults are. The session's `lock_timeout` is
/// meant for the tables that a migration changes, and no timeout for the whole of one.
fn begin(wait: Duration) -> String {
    format!(
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE; \
         SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {}",
        wait.as_millis().max(1)
    )
}

/// Applies `migration`, unless another run did so during the wait for the lock.
fn apply(conn: &mut Conn, migration: &dyn Migration<Pg>, wait: Duration) -> Result<bool, Failure> {
    let lock = format!(
        "{}; LOCK TABLE {TABLE} IN SHARE ROW EXCLUSIVE MODE; \
         SET LOCAL lock_timeout TO DEFAULT",
        begin(wait)
    );
    conn.batch_execute(&lock).map_err(Failure::Record)?;
    let applied = conn.applied_migrations().map_err(Failure::Migration)?;
    if applied.contains(&migration.name().version()) {
        return Ok(false);
    }
    conn.run_migration(migration).map_err(Failure::Migration)?;
    Ok(true)
}

/// Diesel's error of a migration hides the statement's. A lost connection shows in its transaction,
/// which couldn't be rolled back.
fn of_connection(conn: &mut Conn, failure: Failure) -> Failure {
    match failure {
        Failure::Migration(error) if conn.is_broken() => Failure::Lost(error),
        failure => failure,
    }
}
