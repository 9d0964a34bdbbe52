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
    taken("connect_timeout", "Of each host. 5 by default and for 0, since every wait ends"),
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
    taken("sslmode", "`allow` is refused: it would prefer plain text"),
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
    taken("sslrootcert", "`~/.postgresql/root.crt` isn't read"),
    refused("sslcrl", NO_REVOCATION),
    refused("sslcrldir", NO_REVOCATION),
    taken("sslsni", ""),
    refused("requirepeer", "the user of a Unix socket's server isn't looked up"),
    taken("ssl_min_protocol_version", "TLS 1.2 is the oldest in any case"),
    taken("ssl_max_protocol_version", "Below `TLSv1.2` is refused"),
    refused("min_protocol_version", "the driver speaks version 3.0: leave it out"),
    ignored("max_protocol_version", "The driver speaks version 3.0"),
    taken("sslnegotiation", ""),
    refused("sslkeylogfile", "the keys of TLS are written nowhere"),
    ignored("krbsrvname", NO_GSSAPI),
    ignored("gsslib", NO_GSSAPI),
    ignored("gssdelegation", NO_GSSAPI),
    refused("service", NO_FILE_OF_DEFAULTS),
    refused("servicefile", NO_FILE_OF_DEFAULTS),
    taken("target_session_attrs", ""),
    taken("load_balance_hosts", ""),
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
