//! What can go wrong, by cause.

mod cause;
mod constraint;
mod database;
mod guard;
mod kinds;

pub use crate::error::cause::Cause;
pub use crate::error::constraint::Constraint;
pub(crate) use crate::error::database::{is_of_connection, unreadable_column};
pub use crate::error::kinds::{Error, NotReady, Result, Transient, UnreadableValue};
