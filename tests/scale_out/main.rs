//! The way to the database as production has it: servers that freeze, and others that are promoted.
//!
//! ```text
//! cargo test --test scale_out -- --nocapture
//! ```

mod failover;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../support/mod.rs"]
mod support;
