//! Connections, the schema, and the statements that are sent.

mod catalogue;
mod constraints;
mod distribute;
mod encodings;
mod hosts;
mod languages;
mod leftovers;
mod migrations;
mod operations;
mod pool;
mod privileges;
mod rights;
mod roles;
mod row_security;
mod stale_statements;
mod standby;
mod statements;
mod tls;
