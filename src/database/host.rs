//! A host of a connection URL.

use std::fmt;
use std::net::IpAddr;
use tokio::net::lookup_host;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::error::{Cause, Error, Result, Transient};

/// A host of a connection URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostAddress {
    pub(super) host: Host,
    /// Its address, where the URL names it.
    pub(super) hostaddr: Option<IpAddr>,
    pub(super) port: u16,
}

impl HostAddress {
    /// Whether the host is a Unix socket, which is never encrypted.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.host, Host::Unix(_)) && self.hostaddr.is_none()
    }

    /// The way to one address of this host alone. `config` has no hosts.
    pub(super) fn config(&self, config: &Config, address: Option<IpAddr>) -> Config {
        let mut config = config.clone();
        match &self.host {
            Host::Tcp(name) => config.host(name),
            Host::Unix(directory) => config.host_path(directory),
        };
        if let Some(address) = address {
            config.hostaddr(address);
        }
        config.port(self.port);
        if self.is_local() {
            config.ssl_mode(SslMode::Disable);
        }
        config
    }

    /// The addresses of the host; `None` of a Unix socket.
    pub(super) async fn addresses(&self) -> Result<Vec<Option<IpAddr>>> {
        let name = match (&self.host, self.hostaddr) {
            (_, Some(address)) => return Ok(vec![Some(address)]),
            (Host::Unix(_), None) => return Ok(vec![None]),
            (Host::Tcp(name), None) => name,
        };
        let found = lookup_host((name.as_str(), self.port)).await.map_err(|error| {
            let message = format!("the host {name} can't be looked up: {error}");
            Error::transient(Transient::ConnectionLost, Cause::new(message, error))
        })?;
        Ok(found.map(|address| Some(address.ip())).collect())
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Tcp(name) => write!(f, "{name}:{}", self.port),
            Host::Unix(directory) => write!(f, "{}:{}", directory.display(), self.port),
        }
    }
}
