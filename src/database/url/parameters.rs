//! Which parameters a connection URL may have: each of libpq, and our own.

/// What becomes of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It does what it does in libpq, but for what the note says.
    Taken,
    /// It is an error, for the reason in the note.
    Refused,
    /// It changes nothing, as in a libpq that has no use for it.
    Ignored,
}

/// A parameter of a connection URL.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) treatment: Treatment,
    /// A difference from libpq, or the reason of a refusal.
    pub(super) note: &'static str,
}

const fn taken(name: &'static str, note: &'static str) -> Parameter {
    Parameter { name, treatment: Treatment::Taken, note }
}

const fn refused(name: &'static str, note: &'static str) -> Parameter {
    Parameter { name, treatment: Treatment::Refused, note }
}

const fn ignored(name: &'static str, note: &'static str) -> Parameter {
    Parameter { name, treatment: Treatment::Ignored, note }
}

const NO_OAUTH: &str = "OAuth isn't supported: use a password or a client certificate";
const NO_GSSAPI: &str = "GSSAPI isn't supported, and a server that asks for it is refused";
const NO_SCRAM_KEY: &str = "a SCRAM key can't take the password's place: write the password";
const NO_REVOCATION: &str = "revocation lists aren't checked: remove the server's certificate from \
                             sslrootcert, or leave the parameter out";
const NO_FILE_OF_DEFAULTS: &str = "no file of parameters is read: write its parameters in the URL";

/// Every parameter of libpq 15 to 18, then what URLs have beside them.
pub(super) const PARAMETERS: &[Parameter] = &[
    taken("host", "`localhost` by default. An abstract Unix socket is refused"),
    taken("hostaddr", "An IP address for each host, or none"),
    taken("port", ""),
    taken("dbname", ""),
    taken("user", ""),
    taken("password", ""),
    refused("passfile", "no password file is read: write the password in the URL"),
    taken(
        "require_auth",
        "What the driver can hold to: `scram-sha-256` over TLS, which then requires channel \
         binding; `none` without a password; and a list that excludes no method of the driver \
         (`none`, `password`, `md5`, `scram-sha-256`). Another is refused",
    ),
    taken("channel_binding", ""),
    taken(
        "connect_timeout",
        "Of each address of a host, and of looking it up. 5 by default and for 0, since every wait ends",
    ),
    taken("client_encoding", "`UTF8` and `auto`. Another is refused"),
    taken(
        "options",
        "Settings: `-c name=value` or `--name=value`. They are set after connecting, since poolers \
         refuse the parameter. Another argument is refused",
    ),
    taken("application_name", "The name of this crate by default"),
    taken("fallback_application_name", ""),
    taken("keepalives", ""),
    taken("keepalives_idle", "5 seconds by default"),
    taken("keepalives_interval", "2 seconds by default"),
    taken("keepalives_count", "3 by default"),
    taken("tcp_user_timeout", "5,000 milliseconds by default"),
    refused("replication", "a replication connection runs no statements of this crate"),
    taken("gssencmode", "`disable` and `prefer`, which then don't differ. `require` is refused"),
    taken(
        "sslmode",
        "`allow` is refused: it would prefer plain text. `prefer` isn't tried in plain text after \
         encryption failed. `verify-ca` needs `sslrootcert`",
    ),
    ignored("sslcompression", "TLS compresses nothing"),
    taken(
        "sslcert",
        "PEM. `~/.postgresql/postgresql.crt` isn't read, and a missing file is an error",
    ),
    taken(
        "sslkey",
        "PEM, with permissions as libpq demands: none for others, and none but reading for the \
         group of root's file. An encrypted key is refused",
    ),
    refused("sslpassword", "encrypted keys aren't read: decrypt sslkey by `openssl pkey`"),
    taken("sslcertmode", ""),
    taken("sslrootcert", "`~/.postgresql/root.crt` isn't read, and with `prefer` no file is"),
    refused("sslcrl", NO_REVOCATION),
    refused("sslcrldir", NO_REVOCATION),
    taken("sslsni", ""),
    refused("requirepeer", "the user of a Unix socket's server isn't looked up"),
    taken("ssl_min_protocol_version", "TLS 1.2 is the oldest in any case"),
    taken("ssl_max_protocol_version", "Below `TLSv1.2` is refused"),
    taken("min_protocol_version", "`3.0`. Another is refused, since the driver speaks 3.0"),
    taken("max_protocol_version", "The driver speaks 3.0 in any case"),
    taken("sslnegotiation", ""),
    refused("sslkeylogfile", "the keys of TLS are written nowhere"),
    ignored("krbsrvname", NO_GSSAPI),
    ignored("gsslib", NO_GSSAPI),
    ignored("gssdelegation", NO_GSSAPI),
    refused("service", NO_FILE_OF_DEFAULTS),
    taken(
        "target_session_attrs",
        "`primary` by default where the URL names several hosts. A recorder, a cache and pending migrations take a primary whatever it says",
    ),
    taken("load_balance_hosts", "`random` shuffles the hosts, but not the addresses of one"),
    refused("scram_client_key", NO_SCRAM_KEY),
    refused("scram_server_key", NO_SCRAM_KEY),
    refused("oauth_issuer", NO_OAUTH),
    refused("oauth_client_id", NO_OAUTH),
    refused("oauth_client_secret", NO_OAUTH),
    refused("oauth_scope", NO_OAUTH),
    taken("ssl", "`true`, for `sslmode=require`"),
    taken("requiressl", "`1` for `sslmode=require`, otherwise `prefer`"),
    taken("pooler", "This crate's own. `session` declares that a pooler keeps a session's state"),
];

/// The parameter of this name.
pub(super) fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::url::{self, Parsed};
    use std::process::Command;

    /// The table's page in the documentation.
    const PAGE: &str = include_str!("../../../docs/connection-urls.md");

    /// Prints the version of libpq and its parameters. `PG_BIN` names a server that has its own.
    const LIST: &str = r#"
import ctypes, ctypes.util, os
own = os.path.join(os.environ.get("PG_BIN", "/"), "../lib/libpq.so.5")
libpq = ctypes.CDLL(own if os.path.exists(own) else ctypes.util.find_library("pq") or "libpq.so.5")
class Option(ctypes.Structure):
    _fields_ = [(name, ctypes.c_char_p) for name in "keyword envvar compiled val label dispchar".split()]
    _fields_ += [("dispsize", ctypes.c_int)]
libpq.PQconndefaults.restype = ctypes.POINTER(Option)
print(libpq.PQlibVersion())
for option in libpq.PQconndefaults():
    if option.keyword is None:
        break
    print(option.keyword.decode())
"#;

    /// A value of each parameter that is taken, and one that is refused, if there is any.
    const VALUES: &[(&str, &str, Option<&str>)] = &[
        ("host", "db.example", Some("%40socket")),
        ("hostaddr", "192.0.2.1", Some("db.example")),
        ("port", "5433", Some("0")),
        ("dbname", "app", None),
        ("user", "app", None),
        ("password", "secret", None),
        ("require_auth", "!gss", Some("md5")),
        ("channel_binding", "require", Some("yes")),
        ("connect_timeout", "10", Some("soon")),
        ("client_encoding", "utf-8", Some("LATIN1")),
        ("options", "-c%20lock_timeout%3D1s", Some("-S%201")),
        ("application_name", "gateway", None),
        ("fallback_application_name", "gateway", None),
        ("keepalives", "0", Some("on")),
        ("keepalives_idle", "30", Some("30s")),
        ("keepalives_interval", "5", Some("5s")),
        ("keepalives_count", "4", Some("many")),
        ("tcp_user_timeout", "10000", Some("10s")),
        ("gssencmode", "prefer", Some("require")),
        ("sslmode", "require", Some("allow")),
        ("sslcert", "/missing.pem&sslcertmode=disable", Some("/missing.pem")),
        ("sslkey", "/missing.key&sslcertmode=disable", Some("/missing.key")),
        ("sslcertmode", "allow", Some("require")),
        ("sslrootcert", "/missing.pem&sslmode=disable", Some("/missing.pem&sslmode=require")),
        ("sslsni", "0", Some("yes")),
        ("ssl_min_protocol_version", "TLSv1.3", Some("SSLv3")),
        ("ssl_max_protocol_version", "TLSv1.2", Some("TLSv1.1")),
        ("sslnegotiation", "direct&sslmode=require", Some("direct")),
        ("min_protocol_version", "3.0", Some("3.2")),
        ("max_protocol_version", "latest", Some("2.0")),
        ("target_session_attrs", "prefer-standby", Some("master")),
        ("load_balance_hosts", "random", Some("round-robin")),
        ("ssl", "true", Some("false")),
        ("requiressl", "1", None),
        ("pooler", "session", Some("statement")),
    ];

    fn parsed(parameter: &str, value: &str) -> Result<Parsed, String> {
        let url = format!("postgres://u:p@h/d?{parameter}={value}");
        url::parse(&url).map_err(|error| error.to_string())
    }

    fn table() -> String {
        let rows = PARAMETERS.iter().map(|Parameter { name, treatment, note }| {
            let treatment = format!("{treatment:?}").to_lowercase();
            format!("| `{name}` | {treatment} | {note} |\n")
        });
        let head = "| Parameter | | Difference from libpq, or reason |\n|---|---|---|\n".to_owned();
        head + &rows.collect::<String>()
    }

    #[test]
    fn the_documentation_has_the_table() {
        let table = table();
        assert!(PAGE.contains(&table), "docs/connection-urls.md lacks this table:\n\n{table}");
    }

    #[test]
    fn each_parameter_does_what_the_table_says() {
        for Parameter { name, treatment, note } in PARAMETERS {
            let values = VALUES.iter().find(|(taken, ..)| taken == name);
            match (treatment, values) {
                (Treatment::Taken, Some((_, taken, refused))) => {
                    parsed(name, taken).unwrap_or_else(|error| panic!("{name}: {error}"));
                    if let Some(refused) = refused {
                        assert!(parsed(name, refused).is_err(), "{name}={refused} was taken");
                    }
                }
                (Treatment::Refused, None) => {
                    let error = parsed(name, "x").err().unwrap_or_else(|| panic!("{name}"));
                    assert!(error.contains(name) && error.contains(note), "{error}");
                    parsed(name, "").unwrap_or_else(|error| panic!("{name}: {error}"));
                }
                (Treatment::Ignored, None) => {
                    parsed(name, "x").unwrap_or_else(|error| panic!("{name}: {error}"));
                }
                _ => panic!("{name} needs values in the test only if it is taken"),
            }
        }
        assert!(parsed("colour", "red").is_err());
    }

    #[test]
    fn the_table_has_every_parameter_of_libpq() {
        let python = Command::new("python3").args(["-c", LIST]).output();
        let Some(listed) = python.ok().filter(|python| python.status.success()) else {
            assert!(std::env::var_os("CI").is_none(), "there is no python3 or no libpq.so.5");
            return eprintln!("skipped: there is no python3 or no libpq.so.5");
        };
        let listed = String::from_utf8(listed.stdout).unwrap();
        let mut lines = listed.lines();
        let version: u32 = lines.next().unwrap().parse().unwrap();
        let names: Vec<_> = lines.collect();
        assert!(names.len() > 30, "{listed}");
        for name in &names {
            assert!(find(name).is_some(), "{name} of libpq {version} isn't in the table");
        }
        // Releases only add: the newest has all.
        let ours = ["ssl", "requiressl", "pooler"];
        let unknown = PARAMETERS.iter().map(|parameter| parameter.name);
        let unknown: Vec<_> =
            unknown.filter(|name| !names.contains(name) && !ours.contains(name)).collect();
        assert!(version < 180_000 || unknown.is_empty(), "{unknown:?} aren't of libpq {version}");
    }
}
