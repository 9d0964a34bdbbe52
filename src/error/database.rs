//! Diesel's errors, by cause.

use deadpool::managed::TimeoutType;
use diesel::ConnectionError;
use diesel::result::{
    DatabaseErrorInformation, DatabaseErrorKind, DeserializeFieldError, Error as DieselError,
};
use diesel_async::pooled_connection::{PoolError as ManagerError, deadpool::PoolError};
use std::error::Error as StdError;

use super::{Constraint, Error, Transient, UnreadableValue, guard};
use crate::values::InvalidValue;

/// Diesel passes on no SQLSTATE but those it has a kind for; the others are told by their English
/// message. On a server with another `lc_messages` they are [`Error::Database`].
const MESSAGES: [(&str, Transient); 16] = [
    ("deadlock detected", Transient::Deadlock),
    ("canceling statement due to statement timeout", Transient::StatementTimeout),
    ("canceling statement due to lock timeout", Transient::StatementTimeout),
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
            DieselError::DatabaseError(kind, information) => of_server(kind, &*information),
            DieselError::DeserializationError(error) => match error.downcast::<UnreadableValue>() {
                Ok(unreadable) => Self::Unreadable(*unreadable),
                Err(error) => Self::Database(with_sources(&*error)),
            },
            DieselError::SerializationError(error) => match error.downcast::<InvalidValue>() {
                Ok(invalid) => Self::Invalid(*invalid),
                Err(error) => Self::Database(with_sources(&*error)),
            },
            DieselError::QueryBuilderError(error) => match error.downcast::<Self>() {
                Ok(error) => *error,
                Err(error) => Self::Database(with_sources(&*error)),
            },
            DieselError::BrokenTransactionManager => Self::Transient {
                cause: Transient::ConnectionLost,
                message:
                    "a cancelled future left it inside a transaction; drop it, and take another"
                        .to_owned(),
            },
            other => Self::Database(other.to_string()),
        }
    }
}

impl From<ConnectionError> for Error {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::CouldntSetupConfiguration(error) => error.into(),
            other => Self::Configuration(other.to_string()),
        }
    }
}

/// For the pool, whose connections are made by a function that fails with Diesel's error.
impl From<Error> for ConnectionError {
    fn from(error: Error) -> Self {
        Self::CouldntSetupConfiguration(DieselError::QueryBuilderError(Box::new(error)))
    }
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(stage) => Self::Transient {
                cause: match stage {
                    TimeoutType::Wait => Transient::PoolTimeout,
                    TimeoutType::Create | TimeoutType::Recycle => Transient::ConnectionLost,
                },
                message: format!("timed out in the stage {stage:?}"),
            },
            PoolError::Closed => Self::PoolClosed,
            PoolError::Backend(ManagerError::ConnectionError(error)) => error.into(),
            PoolError::Backend(ManagerError::QueryError(error)) => error.into(),
            other => Self::Configuration(other.to_string()),
        }
    }
}

fn of_server(kind: DatabaseErrorKind, information: &dyn DatabaseErrorInformation) -> Error {
    use DatabaseErrorKind as Kind;
    let message = information.message();
    let transient = |cause| Error::Transient { cause, message: message.to_owned() };
    match kind {
        Kind::UniqueViolation
        | Kind::ForeignKeyViolation
        | Kind::RestrictViolation
        | Kind::ExclusionViolation
        | Kind::CheckViolation => {
            match Constraint::violated(information.constraint_name(), message) {
                Some(constraint) => guard::refusal(constraint, information.details())
                    .unwrap_or(Error::Violated { constraint }),
                None => Error::UnknownConstraint {
                    name: information.constraint_name().unwrap_or(message).to_owned(),
                },
            }
        }
        Kind::SerializationFailure => transient(Transient::SerializationFailure),
        Kind::ReadOnlyTransaction => transient(Transient::ReadOnly),
        Kind::UnableToSendCommand | Kind::ClosedConnection => transient(Transient::ConnectionLost),
        _ => match MESSAGES.iter().find(|(start, _)| message.starts_with(start)) {
            Some((_, cause)) => transient(*cause),
            None => Error::Database(message.to_owned()),
        },
    }
}

fn with_sources(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// The column that can't be read and why, if that is what `error` says.
pub(crate) fn unreadable_column<'e>(
    error: &'e (dyn StdError + Send + Sync + 'static),
) -> Option<(&'e str, String)> {
    let field = error.downcast_ref::<DeserializeFieldError>()?;
    Some((field.field_name.as_deref()?, with_sources(&*field.error)))
}
