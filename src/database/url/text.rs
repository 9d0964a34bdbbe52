//! The parts of a URL, before they are decoded.

use crate::error::{Cause, Error, Result};
use crate::values::storable;

/// The parts of a URL as they are written.
pub(super) struct Text<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    /// Each host, separated by commas.
    pub(super) hosts: String,
    /// The port of each host, separated by commas.
    pub(super) ports: String,
    pub(super) database: Option<&'a str>,
    /// What follows the question mark.
    pub(super) options: &'a str,
}

impl<'a> Text<'a> {
    pub(super) fn split(url: &'a str) -> Result<Self> {
        storable("the connection URL", url)
            .map_err(|invalid| Error::configuration(Cause::of(invalid)))?;
        if url.contains("%00") {
            return Err(unusable("must not contain a NUL character"));
        }
        if url.ends_with('\n') {
            return Err(unusable("must not end with a newline: remove it"));
        }
        if url.trim() != url {
            return Err(unusable("must not begin or end with white space: remove it"));
        }
        let rest =
            ["postgres://", "postgresql://"].iter().find_map(|start| url.strip_prefix(start));
        let rest = rest.ok_or_else(|| unusable("must begin with postgres:// or postgresql://"))?;
        let (credentials, rest) = credentials(rest)?;
        let (user, password) = match credentials.map(|text| text.split_once(':')) {
            None => (None, None),
            Some(None) => (credentials, None),
            Some(Some((user, password))) => (Some(user), Some(password)),
        };
        let (base, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (addresses, database) = match base.split_once('/') {
            Some((addresses, database)) => (addresses, Some(database)),
            None => (base, None),
        };
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for address in addresses.split(',') {
            let (host, port) = host_and_port(address)?;
            hosts.push(host);
            ports.push(port);
        }
        Ok(Self {
            user,
            password,
            hosts: hosts.join(","),
            ports: ports.join(","),
            database,
            options,
        })
    }
}

/// User name and password, which end at the @ and may contain most other characters, and the rest.
fn credentials(text: &str) -> Result<(Option<&str>, &str)> {
    let Some((before, after)) = text.split_once('@') else { return Ok((None, text)) };
    // An @ of an option would make a user or a password of the host and the options before it.
    let is_of_option = before.split_once('/').is_some_and(|(_, path)| path.contains('?'))
        || before.split(':').next().is_some_and(|user| user.contains(['/', '?']))
        || before.split_once('?').is_some_and(|(_, text)| text.contains("password="));
    if is_of_option || after.contains('@') {
        return Err(unparsable(
            "write %40 for each @ except the one before the host, and %2F for / and %3F for ? in a \
             password",
        ));
    }
    Ok((Some(before), after))
}

fn host_and_port(address: &str) -> Result<(&str, &str)> {
    let Some(rest) = address.strip_prefix('[') else {
        return Ok(address.split_once(':').unwrap_or((address, "")));
    };
    let (host, port) = rest.split_once(']').ok_or_else(|| unparsable("an IPv6 host needs a ]"))?;
    match port.strip_prefix(':') {
        None if !port.is_empty() => Err(unparsable("a colon must follow the ] of an IPv6 host")),
        port => Ok((host, port.unwrap_or_default())),
    }
}

fn unusable(reason: &str) -> Error {
    Error::configuration(format!("the connection URL {reason}"))
}

fn unparsable(reason: &str) -> Error {
    unusable(&format!("can't be parsed: {reason}"))
}
