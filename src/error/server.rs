//! Errors that a server or a pooler sent.

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error as DieselError};
use std::error::Error as StdError;

use crate::error::cause::Cause;
use crate::error::constraint::Constraint;
use crate::error::guard;
use crate::error::kinds::{Error, Transient};
use crate::error::messages::{Meaning, meaning};

/// The error of a statement.
pub(super) fn of_statement(
    kind: DatabaseErrorKind,
    information: Box<dyn DatabaseErrorInformation + Send + Sync>,
) -> Error {
    use DatabaseErrorKind as Kind;
    match kind {
        Kind::UniqueViolation
        | Kind::ForeignKeyViolation
        | Kind::RestrictViolation
        | Kind::ExclusionViolation
        | Kind::CheckViolation => of_violation(&*information),
        _ => {
            let message = information.message().to_owned();
            let known = known(kind, &message);
            error(known, message, DieselError::DatabaseError(kind, information))
        }
    }
}

/// The error of a connection that a server or a pooler refused with `message` and the SQLSTATE
/// `code`.
pub(crate) fn of_refusal(message: &str, code: &str, source: tokio_postgres::Error) -> Error {
    let known = match (code, code.get(..2)) {
        ("53300", _) => Some(Meaning::Transient(Transient::TooManyConnections)),
        ("25006", _) => Some(Meaning::Transient(Transient::ReadOnly)),
        (_, Some("53")) => Some(Meaning::Transient(Transient::OutOfResources)),
        (_, Some("57")) => Some(Meaning::Transient(Transient::ServerUnavailable)),
        // A role, password, database or option that the server rejects.
        (_, Some("22" | "28" | "3D" | "42")) => {
            return Error::configuration(Cause::new(message, source));
        }
        // What poolers say of all that goes wrong.
        (_, Some("08")) => {
            Some(meaning(message).unwrap_or(Meaning::Transient(Transient::ConnectionLost)))
        }
        _ => meaning(message),
    };
    error(known, message.to_owned(), source)
}

/// Whether the connection must not be used again after `error`.
pub(crate) fn is_of_connection(error: &DieselError) -> bool {
    let DieselError::DatabaseError(kind, information) = error else { return false };
    matches!(known(*kind, information.message()), Some(Meaning::Transient(kind)) if kind.ends_connection())
}

/// What an error of a statement means that is no violated constraint.
fn known(kind: DatabaseErrorKind, message: &str) -> Option<Meaning> {
    use DatabaseErrorKind as Kind;
    match kind {
        Kind::SerializationFailure => Some(Meaning::Transient(Transient::SerializationFailure)),
        Kind::ReadOnlyTransaction => Some(Meaning::Transient(Transient::ReadOnly)),
        Kind::UnableToSendCommand | Kind::ClosedConnection => {
            Some(Meaning::Transient(Transient::ConnectionLost))
        }
        _ => meaning(message),
    }
}

fn error(
    known: Option<Meaning>,
    message: String,
    source: impl StdError + Send + Sync + 'static,
) -> Error {
    match known {
        Some(Meaning::Transient(kind)) => Error::transient(kind, Cause::new(message, source)),
        Some(Meaning::Unencodable) => Error::Unencodable(Cause::new(message, source)),
        Some(Meaning::Configuration(advice)) => {
            Error::configuration(Cause::new(format!("{message}; {advice}"), source))
        }
        None => Error::database(Cause::new(message, source)),
    }
}

impl Error {
    /// Whether nothing but the server's words says what went wrong: it names no table, column or
    /// constraint. In another language than English, they may say anything.
    pub(crate) fn is_unclear(&self) -> bool {
        let Self::Database(cause) = self else { return false };
        match cause.source().and_then(|source| source.downcast_ref()) {
            Some(DieselError::DatabaseError(_, information)) => {
                information.table_name().is_none()
                    && information.column_name().is_none()
                    && information.constraint_name().is_none()
            }
            _ => false,
        }
    }
}

fn of_violation(information: &dyn DatabaseErrorInformation) -> Error {
    let message = information.message();
    match Constraint::violated(information.constraint_name(), message) {
        Some(constraint) => guard::refusal(constraint, information.details())
            .unwrap_or(Error::Violated { constraint }),
        None => Error::UnknownConstraint {
            name: information.constraint_name().unwrap_or(message).to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_postgres::{Config, NoTls};

    /// What a statement ends with that the server refuses, without a SQLSTATE that Diesel knows.
    fn stated(message: &str) -> Error {
        let information = Box::new(message.to_owned());
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, information).into()
    }

    /// What connecting ends with, where a server sends an error in place of its greeting.
    async fn refused(code: &str, message: &str) -> Error {
        let (client, mut server) = duplex(4_096);
        let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
        let length = u32::try_from(fields.len() + 4).unwrap();
        let answer = [&b"E"[..], &length.to_be_bytes(), fields.as_bytes()].concat();
        let server = async {
            // Read what the client sends first, so that it isn't told that nobody listens.
            server.read_u8().await.unwrap();
            server.write_all(&answer).await.unwrap();
        };
        let config = Config::new().user("gateway").to_owned();
        let (refused, ()) = tokio::join!(config.connect_raw(client, NoTls), server);
        let error = refused.map(drop).unwrap_err();
        let database = error.as_db_error().unwrap();
        let (message, code) = (database.message().to_owned(), database.code().code().to_owned());
        of_refusal(&message, &code, error)
    }

    fn kind(error: &Error) -> Option<Transient> {
        match error {
            Error::Transient { kind, .. } => Some(*kind),
            _ => None,
        }
    }

    #[test]
    fn what_is_said_of_a_statement_has_its_kind() {
        for (message, expected) in [
            ("deadlock detected", Transient::Deadlock),
            ("canceling statement due to statement timeout", Transient::StatementTimeout),
            ("canceling statement due to lock timeout", Transient::LockTimeout),
            ("canceling statement due to user request", Transient::Cancelled),
            (
                "could not serialize access due to concurrent update",
                Transient::SerializationFailure,
            ),
            ("terminating connection due to administrator command", Transient::ServerUnavailable),
            ("the database system is in recovery mode", Transient::ServerUnavailable),
            ("the database system is shutting down", Transient::ServerUnavailable),
            ("cannot execute INSERT in a read-only transaction", Transient::ReadOnly),
            ("server 2 of pool main does not allow writes", Transient::ReadOnly),
            ("sorry, too many clients already", Transient::TooManyConnections),
            (
                "remaining connection slots are reserved for roles with the SUPERUSER attribute",
                Transient::TooManyConnections,
            ),
            ("too many connections for role \"gateway\"", Transient::TooManyConnections),
            ("cached plan must not change result type", Transient::StaleStatement),
            ("prepared statement \"s0\" does not exist", Transient::StaleStatement),
            ("prepared statement \"s0\" already exists", Transient::StaleStatement),
            ("out of shared memory", Transient::OutOfResources),
            (
                "could not extend file \"base/5/16384\": No space left on device",
                Transient::OutOfResources,
            ),
            ("SSL SYSCALL error: EOF detected", Transient::ConnectionLost),
            ("server closed the connection unexpectedly", Transient::ConnectionLost),
            (
                "connection to server at \"10.0.0.2\", port 5432 failed: Connection refused",
                Transient::ConnectionLost,
            ),
            ("query_wait_timeout", Transient::TooManyConnections),
            ("server conn crashed?", Transient::ConnectionLost),
            ("query_timeout", Transient::ConnectionLost),
            ("prepared statement did not exist", Transient::StaleStatement),
            (
                "canceling the transaction since it was involved in a distributed deadlock",
                Transient::Deadlock,
            ),
            (
                "connection to the remote node postgres@10.0.0.3:5432 failed with the following \
                 error: SSL SYSCALL error: EOF detected",
                Transient::ConnectionLost,
            ),
            ("writing to worker nodes is not currently allowed", Transient::ReadOnly),
            ("unable to read data from DB node 1", Transient::ConnectionLost),
        ] {
            let error = stated(message);
            assert_eq!(kind(&error), Some(expected), "{error:?}");
            assert!(error.is_retryable());
        }
    }

    #[test]
    fn what_only_looks_alike_is_not_transient() {
        for message in [
            "",
            "MATCH FULL does not allow mixing of null and nonnull key values.",
            "cannot execute LISTEN during recovery",
            "prepared statement \"s0\" has 2 parameters",
            "relation \"deadlock detected\" does not exist",
            "connection to the remote node is configured",
            "invalid byte sequence for encoding \"UTF8\": 0x80",
        ] {
            let error = stated(message);
            assert_eq!(error, Error::database(message), "{error:?}");
        }
    }

    #[test]
    fn a_connection_is_given_up_after_what_concerns_it() {
        for message in [
            "cannot execute INSERT in a read-only transaction",
            "cached plan must not change result type",
            "prepared statement \"s0\" does not exist",
            "terminating connection due to administrator command",
            "query_wait_timeout",
            "server conn crashed?",
        ] {
            assert!(stated(message).ends_connection(), "{message}");
        }
        for message in [
            "deadlock detected",
            "canceling statement due to lock timeout",
            "canceling statement due to statement timeout",
            "out of memory",
            "relation \"usage\" does not exist",
        ] {
            assert!(!stated(message).ends_connection(), "{message}");
        }
    }

    #[test]
    fn a_value_that_the_encoding_lacks_is_no_fault_of_the_server() {
        for message in [
            "character with byte sequence 0xe2 0x82 0xac in encoding \"UTF8\" has no equivalent in \
             encoding \"LATIN1\"",
            "Zeichen mit Byte-Folge 0xe2 0x82 0xac in Kodierung »UTF8« hat keine Entsprechung in \
             Kodierung »LATIN1«",
        ] {
            let error = stated(message);
            assert_eq!(error, Error::Unencodable(message.into()));
            assert!(!error.is_retryable());
        }
    }

    #[tokio::test]
    async fn a_refused_connection_is_retried_where_that_may_help() {
        for (code, message, expected) in [
            ("57P03", "the database system is in recovery mode", Transient::ServerUnavailable),
            // On a server with another language.
            ("57P03", "das Datenbanksystem startet", Transient::ServerUnavailable),
            ("53300", "tut mir leid, schon zu viele Verbindungen", Transient::TooManyConnections),
            ("53200", "Speicher aufgebraucht", Transient::OutOfResources),
            ("08P01", "query_wait_timeout", Transient::TooManyConnections),
            (
                "08P01",
                "no more connections allowed (max_client_conn)",
                Transient::TooManyConnections,
            ),
            (
                "08P01",
                "client connections exceeded (max_db_client_connections)",
                Transient::TooManyConnections,
            ),
            ("08P01", "client_login_timeout (server down)", Transient::ServerUnavailable),
            ("08P01", "pgbouncer cannot connect to server", Transient::ServerUnavailable),
            (
                "08P01",
                "server login has been failing, cached error: connect failed (server_login_retry)",
                Transient::ServerUnavailable,
            ),
            ("08P01", "pooler is shutting down", Transient::ServerUnavailable),
            ("08006", "what no table knows", Transient::ConnectionLost),
            (
                "XX000",
                "all backend nodes are down, pgpool requires at least one valid node",
                Transient::ServerUnavailable,
            ),
        ] {
            let error = refused(code, message).await;
            assert_eq!(kind(&error), Some(expected), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_refusal_for_good_says_what_to_change() {
        for (code, message, advice) in [
            (
                "08P01",
                "unsupported startup parameter: geqo",
                "PgBouncer's ignore_startup_parameters",
            ),
            (
                "08P01",
                "unsupported startup parameter in options: lock_timeout",
                "PgBouncer's ignore_startup_parameters",
            ),
            ("08P01", "no such database: app", "a database of PgBouncer's configuration"),
            ("08P01", "password authentication failed", "the role and the password"),
            ("08P01", "SSL required", "sslmode=require"),
            ("28P01", "password authentication failed for user \"gateway\"", ""),
            ("3D000", "database \"app\" does not exist", ""),
        ] {
            let error = refused(code, message).await;
            assert!(matches!(error, Error::Configuration(_)), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(message) && text.contains(advice), "{text}");
            assert_eq!(
                text.contains("PgBouncer"),
                code == "08P01" && !advice.contains("sslmode"),
                "{text}"
            );
        }
    }
}
