//! What stands between a client and the server's session.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::database::refusal::refused;
use crate::error::{Error, Result};

/// How a pooler between the client and the server shares sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooler {
    /// A client keeps its session until it disconnects. What is claimed wrongly makes clients
    /// execute each other's statements.
    Session,
}

/// How long a session stays with a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// As long as the connection, which is to the server itself.
    None,
    /// As long as the connection, by a pooler in session mode.
    Session,
    /// For a transaction, by a pooler that keeps prepared statements apart.
    Transaction,
}

impl Pooling {
    /// Whether the session stays as long as the connection.
    pub(crate) fn keeps_session(self) -> bool {
        self != Self::Transaction
    }
}

/// Prepared by a name of the driver's. A pooler that tracks statements prepares it by its own.
const PROBE: &str = "SELECT 'probe of prepared statements'";

/// The names of the probe in the session.
const NAMES: &str = "SELECT name FROM pg_catalog.pg_prepared_statements
    WHERE statement = 'SELECT ''probe of prepared statements'''";

/// Checks that the pooler at the other end of `client` keeps the prepared statements of its clients
/// apart.
///
/// All clients of tokio-postgres name their statements alike. Where a pooler shares a session
/// between them and doesn't track names, one executes what another prepared.
pub(super) async fn require_tracking(client: &Client) -> Result<()> {
    // Within a transaction, the session is the client's.
    client.batch_execute("BEGIN").await.map_err(refused)?;
    let names = names_of_probe(client).await;
    let ended = client.batch_execute("ROLLBACK").await.map_err(refused);
    let names = names?;
    ended?;
    if names.is_empty() || names.iter().any(|name| is_of_driver(name)) {
        return Err(untracked());
    }
    Ok(())
}

async fn names_of_probe(client: &Client) -> Result<Vec<String>> {
    let probe = match client.prepare(PROBE).await {
        Ok(probe) => probe,
        // Another client's statement has the name.
        Err(error) if error.code() == Some(&SqlState::DUPLICATE_PSTATEMENT) => {
            return Err(untracked());
        }
        Err(error) => return Err(refused(error)),
    };
    let rows = client.simple_query(NAMES).await.map_err(refused)?;
    // It is closed within the transaction, where its name is this client's.
    drop(probe);
    let name = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    Ok(rows.into_iter().filter_map(name).collect())
}

/// Whether the driver gave a statement its name: `s` and a number.
fn is_of_driver(name: &str) -> bool {
    name.strip_prefix('s').is_some_and(|number| number.parse::<u64>().is_ok())
}

fn untracked() -> Error {
    Error::configuration(
        "the pooler doesn't keep prepared statements apart: set max_prepared_statements above zero \
         (PgBouncer 1.21 or later), or add pooler=session to the URL if it pools by session",
    )
}
