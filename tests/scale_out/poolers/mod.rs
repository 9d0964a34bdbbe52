//! Connection poolers: PgBouncer in each of its modes.

mod migrations;
mod modes;
mod operations;
pub use operations::run_all;
mod processes;
mod recorder;
mod refused;
mod timeouts;

use model_experiments::error::Transient;
use model_experiments::{ConnectOptions, Error, Pool, PoolOptions, Result};
use std::fmt::Debug;

use crate::pgbouncer::{Pgbouncer, Release};
use crate::support::TestDatabase;

/// A pooler through which the crate works.
struct Working {
    name: &'static str,
    release: Release,
    settings: &'static [&'static str],
    /// The option of the URL, if it needs one.
    is_session: bool,
}

/// PgBouncer as Debian has it, in the modes that work.
const WORKING: [Working; 3] = [
    Working {
        name: "1.18 in session mode",
        release: Release::Untracking,
        settings: &["pool_mode = session"],
        is_session: true,
    },
    Working {
        name: "1.24 in session mode",
        release: Release::Tracking,
        settings: &["pool_mode = session"],
        is_session: true,
    },
    Working {
        name: "1.24 in transaction mode",
        release: Release::Tracking,
        settings: &["pool_mode = transaction"],
        is_session: false,
    },
];

impl Working {
    /// Starts it in front of `database`, and tells how to connect through it.
    fn start(&self, database: &TestDatabase, more: &[&str]) -> Option<(Pgbouncer, String)> {
        let settings = [self.settings, more].concat();
        let pooler = Pgbouncer::start(self.release, &database.url(), &settings)?;
        let url = if self.is_session { pooler.session_url() } else { pooler.url() };
        println!("{}:", self.name);
        Some((pooler, url))
    }
}

fn pool(connect: ConnectOptions, size: usize) -> Pool {
    Pool::new(connect, PoolOptions::default().max_size(size)).unwrap()
}

/// Fails unless the configuration is refused with an error that contains each of `words`.
#[track_caller]
pub fn assert_refused<T: Debug>(outcome: Result<T>, words: &[&str]) {
    match outcome {
        Err(Error::Configuration(cause)) => {
            for word in words {
                assert!(cause.message().contains(word), "no {word} in: {}", cause.message());
            }
        }
        outcome => panic!("{outcome:?}"),
    }
}

/// Whether a statement ran for too long, by the server's clock or by ours.
pub fn is_timeout<T>(outcome: &Result<T>) -> bool {
    use Transient::{ConnectionLost, StatementTimeout};
    matches!(outcome, Err(Error::Transient { kind: StatementTimeout | ConnectionLost, .. }))
}
