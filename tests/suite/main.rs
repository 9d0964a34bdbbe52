//! The default suite: one process, one server, and a database for each test.

#[path = "../support/mod.rs"]
mod support;

mod database;
mod examples;
mod experiments;
mod futures;
mod random;
mod recording;
mod reports;
mod routing;
mod values;
