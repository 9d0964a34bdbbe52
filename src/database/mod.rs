//! The way to the database: options, TLS, connections, a pool, transactions and migrations.

pub(crate) mod backoff;
mod check_in;
pub(crate) mod connect;
mod manager;
pub mod migrations;
pub(crate) mod pool;
pub(crate) mod pooled_connection;
mod session;
mod statement;
mod tls;
pub(crate) mod transaction;
