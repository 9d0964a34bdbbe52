//! The default suite: one process, one server, a database for each test.

#[path = "../support/mod.rs"]
mod support;

mod lifecycle;
