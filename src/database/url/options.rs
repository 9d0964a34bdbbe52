//! The server's settings that the parameter `options` has.

use std::time::Duration;
use tokio_postgres::config::Host;

use crate::database::host::HostAddress;
use crate::database::url::timeouts::duration;
use crate::error::{Error, Result};

/// What else the server's command line takes is for those who start it.
const ONLY_SETTINGS: &str =
    "options can only have settings: -c name=value or --name=value, with %20 between them";

/// Neon routes by the host's name, which TLS tells it, or by `endpoint` where a driver doesn't.
const OTHER_ENDPOINT: &str = "options can't name an endpoint: write the host that begins with its \
                              id, such as ep-cool-name-123456.eu-central-1.aws.neon.tech";

/// CockroachDB's, which its proxy reads at connect.
const CLUSTER: &str = "options can't name a cluster: write CLUSTER.DATABASE for the database";

/// The settings of `options`, and the statement timeout apart from them.
pub(super) struct Options {
    pub(super) settings: Vec<(String, String)>,
    pub(super) statement_timeout: Option<Duration>,
}

impl Options {
    pub(super) fn parse(text: &str, hosts: &[HostAddress]) -> Result<Self> {
        let (timeouts, settings) = settings(text, hosts)?
            .into_iter()
            .partition::<Vec<_>, _>(|(name, _)| name == "statement_timeout");
        let timeouts: Result<Vec<_>> =
            timeouts.iter().map(|(name, value)| duration(name, value)).collect();
        Ok(Self { settings, statement_timeout: timeouts?.pop() })
    }
}

/// The settings in `text`, in its order, as the server would read them.
fn settings(text: &str, hosts: &[HostAddress]) -> Result<Vec<(String, String)>> {
    let arguments = split(text);
    let mut arguments = arguments.iter().map(String::as_str);
    let mut settings = Vec::new();
    while let Some(argument) = arguments.next() {
        let setting = match (argument.strip_prefix("--"), argument.strip_prefix("-c")) {
            (Some(setting), _) => setting,
            (_, Some("")) => arguments.next().unwrap_or_default(),
            (_, Some(setting)) => setting,
            (None, None) => {
                require_endpoint(argument, hosts)?;
                continue;
            }
        };
        let (name, value) =
            setting.split_once('=').ok_or_else(|| Error::configuration(ONLY_SETTINGS))?;
        if name == "cluster" {
            return Err(Error::configuration(CLUSTER));
        }
        settings.push((name.replace('-', "_").to_ascii_lowercase(), value.to_owned()));
    }
    Ok(settings)
}

/// Requires that the argument names the endpoint that the hosts' names do.
fn require_endpoint(argument: &str, hosts: &[HostAddress]) -> Result<()> {
    let id = argument.strip_prefix("endpoint=").or(argument.strip_prefix("project="));
    let id = id.ok_or_else(|| Error::configuration(ONLY_SETTINGS))?;
    let is_named = |host: &HostAddress| match &host.host {
        Host::Tcp(name) => {
            let label = name.split('.').next().unwrap_or_default();
            label.strip_suffix("-pooler").unwrap_or(label) == id
        }
        Host::Unix(_) => false,
    };
    if hosts.iter().all(is_named) { Ok(()) } else { Err(Error::configuration(OTHER_ENDPOINT)) }
}

/// The arguments between white space. A backslash takes the next character as it is.
fn split(text: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut argument = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character.is_ascii_whitespace() {
            arguments.extend(argument.take());
            continue;
        }
        let argument = argument.get_or_insert_with(String::new);
        if character == '\\' {
            argument.extend(characters.next());
        } else {
            argument.push(character);
        }
    }
    arguments.extend(argument);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        Options::parse(text, &[]).unwrap().settings
    }

    fn refusal(text: &str) -> String {
        Options::parse(text, &[]).err().unwrap().to_string()
    }

    #[test]
    fn settings_are_read_as_the_server_reads_them() {
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (text, expected) in [
            ("", vec![]),
            ("  ", vec![]),
            ("-c a=b", vec![setting("a", "b")]),
            ("-ca=b\t--c-d=e\n", vec![setting("a", "b"), setting("c_d", "e")]),
            ("-c  A.B=c=d", vec![setting("a.b", "c=d")]),
            (r"-c a=b\ c\\d\-", vec![setting("a", r"b c\d-")]),
            ("--a=", vec![setting("a", "")]),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for text in ["-c", "-c a", "--a", "--", "-S 5", "-e", "a=b", "-c a=b c"] {
            assert!(refusal(text).contains("only have settings"), "{text}");
        }
        assert!(refusal("--cluster=wild-fox-12").contains("CLUSTER.DATABASE"));
    }

    #[test]
    fn the_statement_timeout_is_taken_out_and_the_last_counts() {
        let options =
            Options::parse("-c statement_timeout=1s -c a=b --statement-timeout=2min", &[]).unwrap();
        assert_eq!(options.statement_timeout, Some(Duration::from_secs(120)));
        assert_eq!(options.settings, [("a".to_owned(), "b".to_owned())]);
    }
}
