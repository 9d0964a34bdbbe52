//! Errors of Diesel, its connections and the pool.

use deadpool::managed::{PoolError, TimeoutType};
use diesel::ConnectionError;
use diesel::result::{
    DatabaseErrorInformation, DatabaseErrorKind, DeserializeFieldError, Error as DieselError,
};
use std::error::Error as StdError;

use crate::error::cause::Cause;
use crate::error::constraint::Constraint;
use crate::error::guard;
use crate::error::kinds::{Error, Transient, UnreadableValue};
use crate::values::InvalidValue;

/// The beginnings of messages whose SQLSTATE Diesel doesn't pass on.
///
/// The messages are English. On a server with another `lc_messages` they are [`Error::Database`].
const MESSAGES: [(&str, Transient); 16] = [
    ("deadlock detected", Transient::Deadlock),
    ("canceling statement due to statement timeout", Transient::StatementTimeout),
    ("canceling statement due to lock timeout", Transient::LockTimeout),
    ("canceling statement due to user request", Transient::Cancelled),
    ("terminating connection", Transient::ServerUnavailable),
    ("the database system is", Transient::ServerUnavailable),
    ("could not serialize access", Transient::SerializationFailure),
    ("sorry, too many clients already", Transient::TooManyConnections),
    ("remaining connection slots are reserved", Transient::TooManyConnections),
    ("too many connections for", Transient::TooManyConnections),
    ("could not extend file", Transient::OutOfResources),
    ("could not create file", Transient::OutOfResources),
    ("could not write", Transient::OutOfResources),
    ("could not resize shared memory segment", Transient::OutOfResources),
    ("out of memory", Transient::OutOfResources),
    ("out of shared memory", Transient::OutOfResources),
];

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        match error {
            DieselError::DatabaseError(kind, information) => of_server(kind, information),
            DieselError::DeserializationError(error) => match error.downcast::<UnreadableValue>() {
                Ok(unreadable) => Self::Unreadable(*unreadable),
                Err(error) => Self::Database(Cause::of_boxed(error)),
            },
            DieselError::SerializationError(error) => match error.downcast::<InvalidValue>() {
                Ok(invalid) => Self::Invalid(*invalid),
                Err(error) => Self::Database(Cause::of_boxed(error)),
            },
            DieselError::QueryBuilderError(error) => match error.downcast::<Self>() {
                Ok(error) => *error,
                Err(error) => Self::Database(Cause::of_boxed(error)),
            },
            DieselError::BrokenTransactionManager => Self::transient(
                Transient::ConnectionLost,
                Cause::new(
                    "a cancelled future left it inside a transaction; drop it, and take another",
                    error,
                ),
            ),
            other => Self::Database(Cause::of(other)),
        }
    }
}

// Functions in place of `From`: deadpool and Diesel's connection errors are no part of the public
// API.
impl Error {
    /// The error of making a connection.
    pub(crate) fn from_connection(error: ConnectionError) -> Self {
        match error {
            ConnectionError::CouldntSetupConfiguration(error) => error.into(),
            other => Self::Configuration(Cause::of(other)),
        }
    }

    /// The error of taking a connection from the pool.
    pub(crate) fn from_pool(error: PoolError<Self>) -> Self {
        match error {
            PoolError::Timeout(stage) => {
                let kind = match stage {
                    TimeoutType::Wait => Transient::PoolTimeout,
                    TimeoutType::Create | TimeoutType::Recycle => Transient::ConnectionLost,
                };
                Self::transient(kind, format!("timed out in the stage {stage:?}"))
            }
            PoolError::Closed => Self::PoolClosed,
            PoolError::Backend(error) => error,
            other => Self::Configuration(Cause::of(other)),
        }
    }
}

/// Whether the connection can't be used after `error`.
pub(crate) fn is_of_connection(error: &DieselError) -> bool {
    matches!(
        error,
        DieselError::DatabaseError(
            DatabaseErrorKind::ReadOnlyTransaction
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::ClosedConnection,
            _
        )
    )
}

fn of_server(
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
            let transient = match kind {
                Kind::SerializationFailure => Some(Transient::SerializationFailure),
                Kind::ReadOnlyTransaction => Some(Transient::ReadOnly),
                Kind::UnableToSendCommand | Kind::ClosedConnection => {
                    Some(Transient::ConnectionLost)
                }
                _ => {
                    let known = MESSAGES.iter().find(|(start, _)| message.starts_with(start));
                    known.map(|(_, transient)| *transient)
                }
            };
            let cause = Cause::new(message, DieselError::DatabaseError(kind, information));
            match transient {
                Some(kind) => Error::transient(kind, cause),
                None => Error::Database(cause),
            }
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

/// The column that can't be read and why, if that is what `error` says.
pub(crate) fn unreadable_column<'e>(
    error: &'e (dyn StdError + Send + Sync + 'static),
) -> Option<(&'e str, String)> {
    let field = error.downcast_ref::<DeserializeFieldError>()?;
    Some((field.field_name.as_deref()?, Cause::with_sources(&*field.error)))
}
