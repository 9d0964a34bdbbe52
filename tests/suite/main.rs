//! The default suite: one process, one server, a database for each test.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod bucketing;
mod catalogue;
mod constraints;
mod gateway;
mod guards;
mod lifecycle;
mod listing;
mod loss_ledger;
mod migrations;
mod model;
mod pool;
mod publish;
mod races;
mod reading;
mod record;
mod recorder;
mod routing;
mod routing_cache;
mod secrets;
mod statements;
mod structure;
mod tls;
mod tour;
mod unreadable;
