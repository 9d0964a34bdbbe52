//! The way to the database: options, TLS, connections, a pool, transactions and migrations.

pub(crate) mod backoff;
pub(crate) mod connect;
pub mod migrations;
pub(crate) mod pool;
pub(crate) mod pooled_connection;
mod tls;
pub(crate) mod transaction;
