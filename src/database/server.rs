//! What a server says of itself when a connection to it is made.

use diesel_async::AsyncPgConnection;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::database::refusal::refused;
use crate::error::{Error, Result};
use crate::sql::functions::{current_setting, pg_is_in_recovery};
use crate::sql::run::Returns;

/// Asked in the simple protocol, which prepares no statement.
const STATE: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(),
    pg_catalog.current_setting('default_transaction_read_only'),
    pg_catalog.current_setting('lc_messages')";

/// What a server says of itself.
pub(super) struct ServerState {
    /// The process id of the session.
    pub(super) process_id: i32,
    pub(super) role: ServerRole,
    /// The language of its messages.
    pub(super) lc_messages: String,
}

/// Whether a server takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerRole {
    /// A standby that hasn't been promoted.
    pub(crate) is_standby: bool,
    /// Transactions are read-only unless they say otherwise.
    pub(crate) is_read_only: bool,
}

impl ServerState {
    /// Asks the server.
    pub(super) async fn of(client: &Client) -> Result<Self> {
        let rows = client.simple_query(STATE).await.map_err(refused)?;
        let state = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(Self {
                process_id: row.get(0)?.parse().ok()?,
                role: ServerRole {
                    is_standby: row.get(1)? == "t",
                    is_read_only: row.get(2)? == "on",
                },
                lc_messages: row.get(3)?.to_owned(),
            }),
            _ => None,
        });
        state.ok_or_else(|| Error::database("the server doesn't say what it is"))
    }
}

fn role_query() -> impl Returns<(bool, String)> {
    diesel::select((pg_is_in_recovery(), current_setting("default_transaction_read_only")))
}

/// Whether the server takes writes now.
pub(super) async fn server_role(conn: &mut AsyncPgConnection) -> Result<ServerRole> {
    let (is_standby, read_only) = role_query().one(conn).await?;
    Ok(ServerRole { is_standby, is_read_only: read_only == "on" })
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::query;

    vec![query!(role_query()).rows(1, 0)]
}
