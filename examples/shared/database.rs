//! Where an example takes place: on the user's database, or on a server of its own.

#[path = "../../tests/support/postgres/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the tests use all of it, an example only what starts a server"
)]
mod postgres;

use std::env::{self, VarError};

use self::postgres::{Binaries, Server};
use crate::Result;

/// Where an example takes place.
pub enum Database {
    /// On the database of `DATABASE_URL`.
    Given(String),
    /// On a private server, which ends with this value or with the process.
    Private(Server),
}

impl Database {
    /// The database of `DATABASE_URL`, else one on a private server.
    pub fn find() -> Result<Self> {
        match env::var("DATABASE_URL") {
            Ok(url) => Ok(Self::Given(url)),
            Err(VarError::NotPresent) => {
                let binaries = Binaries::find(|message| println!("{message}"))?;
                let server = Server::start(&binaries)?;
                println!(
                    "Started PostgreSQL {} in {}",
                    number(binaries.version()),
                    server.directory().display()
                );
                Ok(Self::Private(server))
            }
            Err(VarError::NotUnicode(_)) => Err("DATABASE_URL is not UTF-8 text".into()),
        }
    }

    /// The database's URL.
    pub fn url(&self) -> String {
        match self {
            Self::Given(url) => url.clone(),
            Self::Private(server) => server.url("postgres"),
        }
    }
}

/// The number in what `postgres -V` says: `postgres (PostgreSQL) 17.6 (Debian 17.6-1)`.
fn number(version: &str) -> &str {
    version
        .split(' ')
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap_or(version)
}
