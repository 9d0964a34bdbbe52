//! Transactions that mark the connection as broken when they are cancelled.
//!
//! diesel-async doesn't close the transaction of a cancelled future, as
//! [`AsyncConnection::transaction`](diesel_async::AsyncConnection::transaction) warns. Its pools
//! discard such a connection (<https://github.com/diesel-rs/diesel_async/issues/96>,
//! <https://github.com/diesel-rs/diesel_async/issues/198>); a caller who owns one goes on in the
//! transaction.

use diesel::result::Error as DieselError;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};
use std::time::Duration;

use crate::database::settings::milliseconds;
use crate::error::Result;

/// A connection inside a transaction, or a savepoint of one.
struct Open<'c> {
    conn: &'c mut AsyncPgConnection,
    has_ended: bool,
}

/// Cancelled before its end, the transaction is still open on the server, and later statements
/// would be rolled back with it. The connection refuses them instead.
impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            AnsiTransactionManager::transaction_manager_status_mut(self.conn).set_in_error();
        }
    }
}

/// Begins a transaction whatever the session's defaults are.
///
/// A statement and a wait for a lock end, also where the session sets no limit.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
    SELECT set_config('statement_timeout', '30s', true) \
    WHERE current_setting('statement_timeout') = '0'; \
    SELECT set_config('lock_timeout', '5s', true) WHERE current_setting('lock_timeout') = '0'";

/// Runs `work` inside a READ COMMITTED transaction, or inside a savepoint of the caller's.
pub(crate) async fn transaction<R>(
    conn: &mut AsyncPgConnection,
    work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<R>,
) -> Result<R> {
    begun_by(BEGIN, conn, work).await
}

/// Runs `work` inside a READ COMMITTED transaction with these limits of a statement and of its
/// waits for locks. `conn` is in no transaction.
pub(crate) async fn transaction_within<R>(
    conn: &mut AsyncPgConnection,
    statement_timeout: Duration,
    lock_timeout: Duration,
    work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<R>,
) -> Result<R> {
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL statement_timeout = {}; \
         SET LOCAL lock_timeout = {}",
        milliseconds(statement_timeout),
        milliseconds(lock_timeout)
    );
    begun_by(&begin, conn, work).await
}

async fn begun_by<R>(
    begin: &str,
    conn: &mut AsyncPgConnection,
    work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<R>,
) -> Result<R> {
    let mut open = Open { conn, has_ended: false };
    let done = run(begin, open.conn, work).await;
    open.has_ended = true;
    done
}

/// What diesel-async's own `transaction` does.
///
/// That one requires of its closure a trait that is not exported
/// (<https://github.com/diesel-rs/diesel_async/pull/284>), so that no function can pass a closure
/// on:
///
/// ```compile_fail
/// # use diesel::QueryResult;
/// # use diesel_async::{AsyncConnection, AsyncPgConnection};
/// async fn pass_on(
///     conn: &mut AsyncPgConnection,
///     work: impl AsyncFnOnce(&mut AsyncPgConnection) -> QueryResult<()> + Send,
/// ) -> QueryResult<()> {
///     conn.transaction(work).await
/// }
/// ```
///
/// It takes one that it is given directly:
///
/// ```
/// # use diesel::QueryResult;
/// # use diesel_async::{AsyncConnection, AsyncPgConnection};
/// async fn directly(conn: &mut AsyncPgConnection) -> QueryResult<()> {
///     conn.transaction(async |_| Ok(())).await
/// }
/// ```
async fn run<R>(
    begin: &str,
    conn: &mut AsyncPgConnection,
    work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<R>,
) -> Result<R> {
    let depth = AnsiTransactionManager::transaction_manager_status_mut(conn).transaction_depth()?;
    match depth {
        None => {
            if let Err(error) = AnsiTransactionManager::begin_transaction_sql(conn, begin).await {
                // The server may be inside the transaction.
                AnsiTransactionManager::transaction_manager_status_mut(conn).set_in_error();
                return Err(error.into());
            }
        }
        Some(_) => AnsiTransactionManager::begin_transaction(conn).await?,
    }
    match work(conn).await {
        Ok(done) => {
            AnsiTransactionManager::commit_transaction(conn).await?;
            Ok(done)
        }
        Err(error) => match AnsiTransactionManager::rollback_transaction(conn).await {
            // The first error says why the transaction is broken.
            Ok(()) | Err(DieselError::BrokenTransactionManager) => Err(error),
            Err(rollback) => Err(rollback.into()),
        },
    }
}
