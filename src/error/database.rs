//! Errors of Diesel, its connections and the pool.

use deadpool::managed::{PoolError, TimeoutType};
use diesel::ConnectionError;
use diesel::result::{DeserializeFieldError, Error as DieselError};
use std::error::Error as StdError;

use crate::error::cause::Cause;
use crate::error::kinds::{Error, Transient, UnreadableValue};
use crate::error::server;
use crate::values::InvalidValue;

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        match error {
            DieselError::DatabaseError(kind, information) => {
                server::of_statement(kind, information)
            }
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
                    "an earlier error ended it, or a cancelled future left it inside a transaction; \
                     drop it, and take another",
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

/// The column that can't be read and why, if that is what `error` says.
pub(crate) fn unreadable_column<'e>(
    error: &'e (dyn StdError + Send + Sync + 'static),
) -> Option<(&'e str, String)> {
    let field = error.downcast_ref::<DeserializeFieldError>()?;
    Some((field.field_name.as_deref()?, Cause::with_sources(&*field.error)))
}
