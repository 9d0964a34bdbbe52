//! The hosts of a URL, each with its address and port.

use std::net::IpAddr;
use std::path::PathBuf;
use tokio_postgres::config::Host;

use crate::database::host::HostAddress;
use crate::database::url::values::Values;
use crate::error::{Cause, Error, Result};

/// The host without a name. libpq's is a socket in a directory that its build chooses.
const HOST: &str = "localhost";

/// The port of a host that has none.
const PORT: u16 = 5432;

/// The hosts that a URL names, in its order.
pub(super) fn hosts(values: &Values) -> Result<Vec<HostAddress>> {
    let split = |name| values.text(name).unwrap_or_default().split(',').collect::<Vec<_>>();
    let (mut names, addresses, ports) = (split("host"), split("hostaddr"), split("port"));
    // As in libpq, addresses need no names.
    if values.text("host").is_none() {
        names = vec![""; addresses.len()];
    }
    let has_addresses = values.text("hostaddr").is_some();
    if has_addresses && addresses.len() != names.len() {
        return Err(Error::configuration("hostaddr must have one address for each host"));
    }
    if ports.len() > 1 && ports.len() != names.len() {
        return Err(Error::configuration("port must have one number, or one for each host"));
    }
    let hosts = names.iter().enumerate().map(|(index, name)| {
        let address = if has_addresses { address(addresses[index])? } else { None };
        let port = port(ports.get(index).unwrap_or(&ports[0]))?;
        Ok(HostAddress { host: host(name, address)?, hostaddr: address, port })
    });
    hosts.collect()
}

fn host(name: &str, address: Option<IpAddr>) -> Result<Host> {
    match (name, address) {
        ("", Some(address)) => Ok(Host::Tcp(address.to_string())),
        ("", None) => Ok(Host::Tcp(HOST.to_owned())),
        _ if name.starts_with('/') => Ok(Host::Unix(PathBuf::from(name))),
        _ if name.starts_with('@') => Err(Error::configuration(
            "an abstract Unix socket can't be used: name the directory of a socket file",
        )),
        _ => Ok(Host::Tcp(name.to_owned())),
    }
}

fn address(text: &str) -> Result<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse().map_err(|error| {
        Error::configuration(Cause::new("hostaddr must be an IP address for each host", error))
    })?;
    Ok(Some(address))
}

fn port(text: &str) -> Result<u16> {
    match text.trim() {
        "" => Ok(PORT),
        text => text.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
            Error::configuration("the port of a host must be a number from 1 to 65535")
        }),
    }
}
