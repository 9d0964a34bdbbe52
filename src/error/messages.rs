//! What servers and poolers say, and what it means.
//!
//! diesel-async doesn't pass the SQLSTATE of a failed statement on, and poolers send one SQLSTATE
//! for everything. So errors are told by their messages, which are English.

use crate::error::kinds::Transient;

/// What a message means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The same call may succeed later.
    Transient(Transient),
    /// The database's encoding lacks a character of a value.
    Unencodable,
    /// The configuration must change, as the advice says.
    Configuration(&'static str),
}

/// Messages that begin with a text, in which `…` stands for anything.
type Messages = &'static [(&'static str, Meaning)];

const CONNECTION_LOST: Meaning = Meaning::Transient(Transient::ConnectionLost);
const UNAVAILABLE: Meaning = Meaning::Transient(Transient::ServerUnavailable);
const READ_ONLY: Meaning = Meaning::Transient(Transient::ReadOnly);
const FULL: Meaning = Meaning::Transient(Transient::TooManyConnections);
const STALE: Meaning = Meaning::Transient(Transient::StaleStatement);
const OUT_OF_RESOURCES: Meaning = Meaning::Transient(Transient::OutOfResources);

/// PostgreSQL itself.
const POSTGRESQL: Messages = &[
    ("deadlock detected", Meaning::Transient(Transient::Deadlock)),
    (
        "canceling statement due to statement timeout",
        Meaning::Transient(Transient::StatementTimeout),
    ),
    ("canceling statement due to lock timeout", Meaning::Transient(Transient::LockTimeout)),
    ("canceling statement due to user request", Meaning::Transient(Transient::Cancelled)),
    ("could not serialize access", Meaning::Transient(Transient::SerializationFailure)),
    ("terminating connection", UNAVAILABLE),
    // … starting up, shutting down, in recovery mode, not (yet) accepting connections
    ("the database system is", UNAVAILABLE),
    ("cannot execute … in a read-only transaction", READ_ONLY),
    ("cannot set transaction read-write mode during recovery", READ_ONLY),
    ("sorry, too many clients already", FULL),
    ("remaining connection slots are reserved", FULL),
    ("too many connections for", FULL),
    ("cached plan must not change result type", STALE),
    ("prepared statement \"…\" does not exist", STALE),
    ("prepared statement \"…\" already exists", STALE),
    ("could not extend file", OUT_OF_RESOURCES),
    ("could not create file", OUT_OF_RESOURCES),
    ("could not write", OUT_OF_RESOURCES),
    ("could not resize shared memory segment", OUT_OF_RESOURCES),
    ("out of memory", OUT_OF_RESOURCES),
    ("out of shared memory", OUT_OF_RESOURCES),
    (
        "character with byte sequence … in encoding \"…\" has no equivalent in encoding \"…\"",
        Meaning::Unencodable,
    ),
    // The same in most other languages: the bytes, then the client's encoding.
    ("… 0x…UTF8", Meaning::Unencodable),
];

/// libpq, which Citus, pgpool and foreign data wrappers connect with.
const LIBPQ: Messages = &[
    ("SSL SYSCALL error: ", CONNECTION_LOST),
    ("SSL connection has been closed unexpectedly", CONNECTION_LOST),
    ("server closed the connection unexpectedly", CONNECTION_LOST),
    ("could not receive data from server", CONNECTION_LOST),
    ("could not send data to server", CONNECTION_LOST),
    ("could not connect to server", CONNECTION_LOST),
    ("connection to server …failed", CONNECTION_LOST),
];

const CHECK_ROLE: &str =
    "check the role and the password of the URL, and PgBouncer's auth_file or auth_query";

/// PgBouncer 1.12 to 1.25.
const PGBOUNCER: Messages = &[
    ("query_wait_timeout", FULL),
    // … (max_client_conn)
    ("no more connections allowed", FULL),
    // … (max_db_client_connections), (max_user_client_connections)
    ("client connections exceeded", FULL),
    // … (server down)
    ("client_login_timeout", UNAVAILABLE),
    // … (server_login_retry)
    ("server login has been failing", UNAVAILABLE),
    ("pgbouncer cannot connect to server", UNAVAILABLE),
    ("server shutting down", UNAVAILABLE),
    ("pooler is shutting down", UNAVAILABLE),
    ("server conn crashed?", CONNECTION_LOST),
    ("server connection closed", CONNECTION_LOST),
    ("query_timeout", CONNECTION_LOST),
    ("query timeout", CONNECTION_LOST),
    ("transaction timeout", CONNECTION_LOST),
    ("idle transaction timeout", CONNECTION_LOST),
    ("client_idle_timeout", CONNECTION_LOST),
    ("prepared statement did not exist", STALE),
    ("prepared statement name is already in use", STALE),
    (
        "unsupported startup parameter",
        Meaning::Configuration(
            "leave the parameter out of the connection URL, or add it to PgBouncer's \
             ignore_startup_parameters",
        ),
    ),
    (
        "unsupported options startup parameter",
        Meaning::Configuration(
            "leave options out of the connection URL, or add it to PgBouncer's \
             ignore_startup_parameters",
        ),
    ),
    (
        "no such database",
        Meaning::Configuration("name a database of PgBouncer's configuration in the URL"),
    ),
    ("no such user", Meaning::Configuration(CHECK_ROLE)),
    ("password authentication failed", Meaning::Configuration(CHECK_ROLE)),
    ("SASL authentication failed", Meaning::Configuration(CHECK_ROLE)),
    (
        "transaction blocks not allowed in statement pooling mode",
        Meaning::Configuration("set PgBouncer's pool_mode to transaction or session"),
    ),
    ("SSL required", Meaning::Configuration("set sslmode=require or a stricter one in the URL")),
];

/// pgpool-II 4.
const PGPOOL: Messages = &[
    ("Sorry, too many clients already", FULL),
    ("all backend nodes are down", UNAVAILABLE),
    ("connection was terminated due to conflict with recovery", UNAVAILABLE),
    ("unable to read data", CONNECTION_LOST),
];

/// Citus 13.
const CITUS: Messages = &[
    (
        "canceling the transaction since it was involved in a distributed deadlock",
        Meaning::Transient(Transient::Deadlock),
    ),
    ("connection to the remote node … failed", CONNECTION_LOST),
    ("connection establishment for node … failed", CONNECTION_LOST),
    ("could not establish any connections to the node", CONNECTION_LOST),
    ("failure on connection marked as essential", CONNECTION_LOST),
    ("writing to worker nodes is not currently allowed", READ_ONLY),
];

/// Proxies that send statements to one server or another.
const PROXIES: Messages = &[("…does not allow writes", READ_ONLY)];

/// What `message` means, if any software's texts say it.
pub(super) fn meaning(message: &str) -> Option<Meaning> {
    let known = [POSTGRESQL, LIBPQ, PGBOUNCER, PGPOOL, CITUS, PROXIES].into_iter().flatten();
    known.into_iter().find(|(text, _)| is_said(text, message)).map(|(_, meaning)| *meaning)
}

/// Whether `message` begins with `text`, in which `…` stands for anything.
fn is_said(text: &str, message: &str) -> bool {
    let mut pieces = text.split('…');
    let start = pieces.next().and_then(|piece| message.strip_prefix(piece));
    let rest = pieces.try_fold(start, |rest, piece| {
        let (_, rest) = rest?.split_once(piece)?;
        Some(Some(rest))
    });
    rest.flatten().is_some()
}
