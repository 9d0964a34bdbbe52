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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Vec<(String, Option<IpAddr>, u16)> {
        let hosts = hosts(&Values::read(url).unwrap()).unwrap();
        let name = |host| match host {
            Host::Tcp(name) => name,
            Host::Unix(directory) => directory.display().to_string(),
        };
        hosts.into_iter().map(|host| (name(host.host), host.hostaddr, host.port)).collect()
    }

    #[test]
    fn hosts_have_addresses_and_ports_as_in_libpq() {
        let host = |name: &str, port| (name.to_owned(), None, port);
        for (url, expected) in [
            ("postgres://", vec![host("localhost", 5432)]),
            ("postgresql:///app", vec![host("localhost", 5432)]),
            ("postgres://:5433/app", vec![host("localhost", 5433)]),
            ("postgres://a:1,b,c:3/app", vec![host("a", 1), host("b", 5432), host("c", 3)]),
            ("postgres://a,b/?port=7", vec![host("a", 7), host("b", 7)]),
            ("postgres://a,b/?port=7,", vec![host("a", 7), host("b", 5432)]),
            ("postgres://[::1]:7,[2001:db8::2]/", vec![host("::1", 7), host("2001:db8::2", 5432)]),
            ("postgres://%2Frun%2Fpg:7/app", vec![host("/run/pg", 7)]),
            ("postgres:///app?host=/run/pg,a&port=1,2", vec![host("/run/pg", 1), host("a", 2)]),
            ("postgres://a/app?host=b", vec![host("b", 5432)]),
        ] {
            assert_eq!(read(url), expected, "{url}");
        }
        let first = "192.0.2.1".parse().unwrap();
        let addressed = |name: &str| (name.to_owned(), Some(first), 5432);
        assert_eq!(read("postgres://a/?hostaddr=192.0.2.1"), [addressed("a")]);
        assert_eq!(read("postgres:///?hostaddr=192.0.2.1"), [addressed("192.0.2.1")]);
        assert_eq!(read("postgres://a,b/?hostaddr=192.0.2.1,"), [addressed("a"), host("b", 5432)]);
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for (url, reason) in [
            ("postgres://a:0/", "from 1 to 65535"),
            ("postgres://a:65536/", "from 1 to 65535"),
            ("postgres://a:b/", "from 1 to 65535"),
            ("postgres://a,b,c/?port=1,2", "one for each host"),
            ("postgres://a,b/?hostaddr=192.0.2.1", "one address for each host"),
            ("postgres://a/?hostaddr=b", "an IP address"),
            ("postgres://[::1/", "needs a ]"),
            ("postgres://[::1]7/", "a colon must follow"),
            ("postgres:///?host=%40socket", "abstract Unix socket"),
        ] {
            let error = Values::read(url).and_then(|values| hosts(&values)).unwrap_err();
            assert!(error.to_string().contains(reason), "{url}: {error}");
        }
    }
}
