//! What a service does: one file per use case, each with the rules and the transaction it needs.
//!
//! Every function takes the connection first, so that it joins a transaction of the caller's; inside one,
//! an operation's own transaction is a savepoint. READ COMMITTED, PostgreSQL's default, is what they are made
//! for. At SERIALIZABLE they may fail with a retryable error; at REPEATABLE READ nothing can be activated.
//!
//! An operation that is cancelled, as by a timeout around it, may leave its transaction open on the server. The
//! connection then refuses everything with a retryable error: drop it, and take another.

pub mod feedback;
pub mod lifecycle;
pub mod loss_ledger;
pub mod overview;
pub mod publish;
pub mod record;
pub mod routing;
pub mod structure;
pub mod summary;

pub(crate) mod notify;
mod transaction;
