//! The return of a connection to its pool.
//!
//! A connection goes back at once if nothing but harmless statements ran on it. Otherwise a task
//! resets it first, or cancels what runs on it and closes it.

use deadpool::managed::Object;
use diesel_async::SimpleAsyncConnection;
use std::pin::pin;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::database::manager::{Manager, WatchedConnection};
use crate::database::session::Condition;

/// Makes a session what it was at its start, in one round trip: `DISCARD ALL`, except for the
/// statements that the client prepared. The time zone is the one that diesel-async sets.
///
/// A transaction of its own begins with it, so that it fails within another one.
const RESET: &str = "
    RESET SESSION AUTHORIZATION;
    RESET ALL;
    SET TIME ZONE 'UTC';
    DO $$
    BEGIN
        IF transaction_timestamp() <> statement_timestamp() THEN
            RAISE EXCEPTION 'a transaction was left open';
        END IF;
    END
    $$;
    CLOSE ALL;
    UNLISTEN *;
    SELECT pg_advisory_unlock_all();
    DISCARD TEMP;
    DISCARD SEQUENCES";

/// The longest reset.
const RESET_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest wait for a statement to be cancelled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// The wait before the first request to cancel, in which most statements end. Later waits double.
const CANCEL_DELAY: Duration = Duration::from_millis(5);

/// Returns the connection to its pool, or closes it.
pub(super) fn check_in(mut object: Object<Manager>) {
    if object.session.was_silent()
        && let Some(pool) = Object::pool(&object)
    {
        pool.manager().distrust();
    }
    match object.condition() {
        Condition::Clean => {}
        Condition::Altered if object.pooling.keeps_session() => spawn(reset(object)),
        Condition::Altered => {
            warn!("a session that a pooler shares was altered; the connection is closed");
            drop(Object::take(object));
        }
        Condition::InTransaction => {
            warn!("a connection was returned inside a transaction, and is closed");
            drop(Object::take(object));
        }
        Condition::Unusable => drop(Object::take(object)),
        Condition::Busy => spawn(cancel(Object::take(object))),
    }
}

/// Without a runtime, what `work` owns is dropped: a pool refuses a connection that isn't clean.
fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(work);
    }
}

async fn reset(mut object: Object<Manager>) {
    let reset = format!("{RESET};{}", object.connect.settings_sql());
    match timeout(RESET_TIMEOUT, object.conn.batch_execute(&reset)).await {
        Ok(Ok(())) => object.session.mark_clean(),
        Ok(Err(error)) => {
            warn!(%error, "a returned connection can't be reset, and is closed");
            drop(Object::take(object));
        }
        Err(_) => {
            warn!("a returned connection isn't reset in time, and is closed");
            drop(Object::take(object));
        }
    }
}

/// Cancels whatever runs, so that its locks are released, and closes the connection.
///
/// A request to cancel is lost on a server that hasn't begun the statement. It is repeated until
/// the server answers an empty statement, which comes after all others.
async fn cancel(mut watched: WatchedConnection) {
    let answered = async {
        let mut last = pin!(watched.conn.batch_execute(""));
        let mut delay = CANCEL_DELAY;
        while timeout(delay, &mut last).await.is_err() {
            if let Err(error) = watched.cancel.send().await {
                debug!(%error, "the request to cancel a statement failed");
            }
            delay *= 2;
        }
    };
    if timeout(CANCEL_TIMEOUT, answered).await.is_err() {
        warn!("an abandoned statement wasn't cancelled in time, and may still run");
    }
}
