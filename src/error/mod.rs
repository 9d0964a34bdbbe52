//! What can go wrong, by cause.

mod cause;
mod constraint;
mod database;
mod guard;
mod kinds;
mod messages;
mod server;

pub use crate::error::cause::Cause;
pub use crate::error::constraint::Constraint;
pub(crate) use crate::error::database::unreadable_column;
pub use crate::error::kinds::{Error, NotReady, Result, Transient, UnreadableValue};
pub(crate) use crate::error::server::{is_of_connection, of_refusal};
