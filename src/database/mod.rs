//! The way to the database: options, TLS, connections, a pool, transactions and migrations.

pub(crate) mod backoff;
mod cancel;
mod cancel_key;
mod check_in;
pub(crate) mod connect;
pub(crate) mod driver;
mod host;
mod inquiries;
pub(crate) mod language;
mod manager;
pub mod migrations;
pub(crate) mod pool;
pub(crate) mod pooled_connection;
pub(crate) mod pooling;
mod refusal;
pub(crate) mod row_security;
pub(crate) mod server;
mod session;
pub(crate) mod settings;
mod statement;
pub(crate) mod target;
mod tls;
pub(crate) mod transaction;
mod url;
