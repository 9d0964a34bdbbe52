//! Applies migrations one at a time, each with the record of migrations locked.

use diesel::Connection;
use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationConnection, MigrationSource};
use diesel::pg::Pg;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::MigrationHarness;
use std::time::Duration;

use crate::database::migrations::history::TABLE;

type Conn = AsyncConnectionWrapper<AsyncPgConnection>;

/// Why a run of migrations ended early.
pub(super) enum Failure {
    /// The record of migrations wasn't locked.
    Lock(DieselError),
    /// A migration failed, or the record of them.
    Migration(Box<dyn std::error::Error + Send + Sync>),
}

impl From<DieselError> for Failure {
    fn from(error: DieselError) -> Self {
        Self::Migration(Box::new(error))
    }
}

/// Applies the migrations of `source` that are pending, and returns their names.
pub(super) fn apply_pending(
    conn: AsyncPgConnection,
    source: impl MigrationSource<Pg>,
    wait: Duration,
) -> Result<Vec<String>, Failure> {
    let conn = &mut Conn::from(conn);
    create_record(conn, wait).map_err(Failure::Lock)?;
    let mut applied = Vec::new();
    for migration in conn.pending_migrations(source).map_err(Failure::Migration)? {
        if conn.transaction(|conn| apply(conn, &*migration, wait))? {
            applied.push(migration.name().to_string());
        }
    }
    Ok(applied)
}

/// Creates Diesel's table. Of two sessions that create it at once, one waits and is refused, with
/// one error or another.
fn create_record(conn: &mut Conn, wait: Duration) -> Result<(), DieselError> {
    let mut create = || {
        conn.transaction(|conn| {
            conn.batch_execute(&lock_timeout(wait))?;
            conn.setup()
        })
    };
    match create() {
        Err(DieselError::DatabaseError(
            DatabaseErrorKind::UniqueViolation | DatabaseErrorKind::Unknown,
            _,
        )) => create(),
        created => created,
    }
    .map(drop)
}

/// The session's own `lock_timeout` is meant for the tables that a migration changes.
fn lock_timeout(wait: Duration) -> String {
    format!("SET LOCAL lock_timeout = {}", wait.as_millis().max(1))
}

/// Applies `migration`, unless another run did so during the wait for the lock.
fn apply(conn: &mut Conn, migration: &dyn Migration<Pg>, wait: Duration) -> Result<bool, Failure> {
    let lock = format!(
        "{}; LOCK TABLE {TABLE} IN SHARE ROW EXCLUSIVE MODE; \
         SET LOCAL lock_timeout TO DEFAULT",
        lock_timeout(wait)
    );
    conn.batch_execute(&lock).map_err(Failure::Lock)?;
    let applied = conn.applied_migrations().map_err(Failure::Migration)?;
    if applied.contains(&migration.name().version()) {
        return Ok(false);
    }
    conn.run_migration(migration).map_err(Failure::Migration)?;
    Ok(true)
}
