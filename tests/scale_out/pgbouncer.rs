//! PgBouncer in front of a test's database.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::process::Service;
use crate::skip;
use crate::support::fixtures::{free_port, option};
use crate::support::postgres::files::cache_of_programs;

/// A release of PgBouncer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// 1.18 of Debian 12, which tracks no prepared statements.
    Untracking,
    /// 1.24 of Debian 13, which tracks them in transaction mode.
    Tracking,
}

impl Release {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Untracking, Self::Tracking];

    /// What runs its programs; `None`, with the reason printed, where it isn't installed.
    fn runner(self) -> Option<PathBuf> {
        let folder = match self {
            Self::Untracking => "pgbouncer-bookworm",
            Self::Tracking => "pgbouncer-trixie",
        };
        runner(folder)
    }
}

/// What runs the programs of a folder of `.ci/install-poolers`.
pub fn runner(folder: &str) -> Option<PathBuf> {
    let runner = cache_of_programs().unwrap().join(folder).join("run");
    if runner.is_file() {
        Some(runner)
    } else {
        skip(&format!("{} is missing: run .ci/install-poolers", runner.display()));
        None
    }
}

/// A PgBouncer.
pub struct Pgbouncer {
    runner: PathBuf,
    configuration: String,
    users: String,
    port: u16,
    database: String,
    user: String,
    /// `None` while it is stopped.
    service: Option<Service>,
}

impl Pgbouncer {
    /// Starts one in front of the database of `url`, with `settings` besides its defaults, such as
    /// `pool_mode = session`. Prints the reason where it isn't installed.
    pub fn start(release: Release, url: &str, settings: &[&str]) -> Option<Self> {
        let runner = release.runner()?;
        let server: Config = url.parse().unwrap();
        let host = match &server.get_hosts()[0] {
            Host::Tcp(host) => host.clone(),
            Host::Unix(directory) => directory.display().to_string(),
        };
        let server_port = server.get_ports().first().copied().unwrap_or(5432);
        let database = server.get_dbname().unwrap().to_owned();
        let user = server.get_user().unwrap().to_owned();
        let password = String::from_utf8_lossy(server.get_password().unwrap_or_default());
        let port = free_port();
        let configuration = format!(
            "[databases]\n\
             {database} = host={host} port={server_port} dbname={database}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = trust\n\
             auth_file = users\n\
             logfile = log\n\
             {}\n",
            settings.join("\n")
        );
        let users = format!("\"{user}\" \"{password}\"\n");
        let mut pooler = Self { runner, configuration, users, port, database, user, service: None };
        pooler.restart();
        Some(pooler)
    }

    /// Ends it, and all connections with it.
    pub fn stop(&mut self) {
        self.service = None;
    }

    /// Starts it again, on the same port.
    pub fn restart(&mut self) {
        let Self { runner, configuration, users, port, .. } = &*self;
        let command = |directory: &Path| {
            std::fs::write(directory.join("pgbouncer.ini"), configuration)?;
            std::fs::write(directory.join("users"), users)?;
            Ok(vec![runner.display().to_string(), "pgbouncer".into(), "pgbouncer.ini".into()])
        };
        let is_ready = |_: &Path| TcpStream::connect(("127.0.0.1", *port)).is_ok();
        self.service = Some(Service::start(command, is_ready).unwrap());
    }

    /// The URL of the database through it.
    pub fn url(&self) -> String {
        format!("postgres://{}@127.0.0.1:{}/{}", self.user, self.port, self.database)
    }

    /// The URL, with the word that the mode is session mode.
    pub fn session_url(&self) -> String {
        option(&self.url(), "pooler=session")
    }
}
