//! The way to the database as production has it: poolers, silent networks, servers that freeze, and
//! others that are promoted.
//!
//! ```text
//! .ci/install-poolers
//! cargo test --test scale_out
//! ```

mod failover;
mod load_balancer;
mod pgbouncer;
mod pgpool;
mod poolers;
mod process;
mod silence;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../support/mod.rs"]
mod support;

/// Says that a test is skipped, and fails where CI is to run all of them.
fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    eprintln!("skipped: {reason}");
}
