//! The database that an example runs on: the user's, or one on a private server.

#[path = "../../tests/support/postgres/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
mod postgres;

use model_experiments::ConnectOptions;
use std::env::{self, VarError};

use self::postgres::{Binaries, Server};
use crate::Result;

/// The database that an example runs on.
pub enum Database {
    /// The database of `DATABASE_URL`.
    Given(String),
    /// A database on a private server, which stops when this value is dropped or the process ends.
    Private(Server),
}

impl Database {
    /// The database of `DATABASE_URL`, or else one on a new private server.
    pub fn find() -> Result<Self> {
        match env::var("DATABASE_URL") {
            Ok(url) => Ok(Self::Given(url)),
            Err(VarError::NotPresent) => {
                let binaries = Binaries::find(|message| println!("{message}"))?;
                let server = Server::start(&binaries)?;
                println!(
                    "Started PostgreSQL {} in {}",
                    version_number(binaries.version()),
                    server.directory().display()
                );
                Ok(Self::Private(server))
            }
            Err(VarError::NotUnicode(_)) => Err("DATABASE_URL is not UTF-8 text".into()),
        }
    }

    /// How to connect to it. The server shows the connections as `application`.
    pub fn options(&self, application: &str) -> Result<ConnectOptions> {
        let url = match self {
            Self::Given(url) => url.clone(),
            Self::Private(server) => server.url("postgres"),
        };
        Ok(ConnectOptions::parse(&url)?.application_name(application))
    }
}

/// The number in the output of `postgres -V`: `postgres (PostgreSQL) 17.6 (Debian 17.6-1)`.
fn version_number(output: &str) -> &str {
    output.split(' ').find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(output)
}
