//! Connections, the schema, and the statements that are sent.

mod catalogue;
mod constraints;
mod distribute;
mod encodings;
mod hosts;
mod languages;
mod leftovers;
mod migrations;
mod pool;
mod privileges;
mod rights;
mod stale_statements;
mod statements;
mod tls;
