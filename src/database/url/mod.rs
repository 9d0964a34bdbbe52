//! Connection URLs as libpq has them.

mod authentication;
mod encryption;
mod hosts;
mod network;
mod options;
mod parameters;
#[cfg(test)]
mod providers;
mod session;
mod text;
mod timeouts;
mod values;

use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, SslNegotiation};

use crate::database::host::HostAddress;
use crate::database::pooling::Pooler;
use crate::database::target::TargetSession;
use crate::database::tls::connector::Connector;
use crate::database::tls::{TlsMode, TlsOptions};
use crate::database::url::options::Options;
use crate::database::url::values::Values;
use crate::error::{Error, Result};

/// The longest attempt to connect to one host, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection URL says.
pub(super) struct Parsed {
    /// Everything but hosts, `options` and the time to connect.
    pub(super) config: Config,
    /// In the URL's order; never empty.
    pub(super) hosts: Vec<HostAddress>,
    /// Whether hosts are tried in random order.
    pub(super) load_balance: bool,
    /// The longest attempt to connect to one host.
    pub(super) connect_timeout: Duration,
    /// Which servers count, if the URL says so.
    pub(super) target: Option<TargetSession>,
    /// What the URL says of a pooler.
    pub(super) pooler: Option<Pooler>,
    /// The server's settings, in their order, without `statement_timeout`.
    pub(super) settings: Vec<(String, String)>,
    /// The longest statement, if the URL says so. Zero is no limit.
    pub(super) statement_timeout: Option<Duration>,
    /// How to encrypt; `None` where nothing is encrypted.
    pub(super) tls: Option<Connector>,
}

/// Parses a URL, and reads the certificates that it names.
pub(super) fn parse(url: &str) -> Result<Parsed> {
    let values = Values::read(url)?;
    let hosts = hosts::hosts(&values)?;
    let is_local = hosts.iter().all(HostAddress::is_local);
    let tls = encryption::options(&values, is_local)?;
    let options = Options::parse(values.text("options").unwrap_or_default(), &hosts)?;
    Ok(Parsed {
        config: config(&values, &tls)?,
        hosts,
        load_balance: values
            .choice("load_balance_hosts", &[("disable", false), ("random", true)])?
            .unwrap_or(false),
        connect_timeout: connect_timeout(&values)?,
        target: session::target_session(&values)?,
        pooler: session::pooler(&values)?,
        settings: options.settings,
        statement_timeout: options.statement_timeout,
        tls: tls.connector()?,
    })
}

fn config(values: &Values, tls: &TlsOptions<'_>) -> Result<Config> {
    require_usable(values)?;
    let mut config = Config::new();
    if let Some(user) = values.text("user") {
        config.user(user);
    }
    if let Some(password) = values.password() {
        config.password(password);
    }
    if let Some(database) = values.text("dbname") {
        config.dbname(database);
    }
    let name = values.text("application_name").or(values.text("fallback_application_name"));
    config.application_name(name.unwrap_or(env!("CARGO_PKG_NAME")));
    config.ssl_mode(match tls.mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    config.channel_binding(authentication::channel_binding(values, tls.mode)?);
    network::configure(values, &mut config)?;
    if tls.is_direct {
        config.ssl_negotiation(SslNegotiation::Direct);
    }
    Ok(config)
}

/// Refuses what the driver can't do.
fn require_usable(values: &Values) -> Result<()> {
    values.choice("gssencmode", &[("disable", ()), ("prefer", ())])?;
    values.choice("min_protocol_version", &[("3.0", ())])?;
    values.choice("max_protocol_version", &[("3.0", ()), ("3.2", ()), ("latest", ())])?;
    let encoding = values.text("client_encoding").unwrap_or("auto");
    // The server reads the names of encodings without their punctuation.
    let letters = encoding.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    if !["auto", "utf8", "unicode"].contains(&&*letters.to_ascii_lowercase()) {
        return Err(Error::configuration("client_encoding must be UTF8, which all text is in"));
    }
    Ok(())
}

/// As in libpq, in seconds. Zero, which waits for ever there, leaves it to the default.
fn connect_timeout(values: &Values) -> Result<Duration> {
    let seconds =
        values.integer("connect_timeout")?.and_then(|seconds| u64::try_from(seconds).ok());
    Ok(seconds.filter(|seconds| *seconds > 0).map_or(CONNECT_TIMEOUT, Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Cause;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use tokio_postgres::config::Host;

    fn refusal(url: &str) -> String {
        match parse(url) {
            Err(Error::Configuration(cause)) => cause.message().to_owned(),
            Err(error) => panic!("{error:?}"),
            Ok(_) => panic!("{url} was parsed"),
        }
    }

    #[test]
    fn takes_postgresqls_own_urls() {
        let parsed = parse(
            "postgres://user:p%40ss@db.example:5433/app?options=-c%20lock_timeout%3D1s&sslmode=disable",
        )
        .unwrap();
        let host = Host::Tcp("db.example".to_owned());
        assert_eq!(parsed.hosts, [HostAddress { host, hostaddr: None, port: 5433 }]);
        assert_eq!(parsed.config.get_user(), Some("user"));
        assert_eq!(parsed.config.get_password(), Some(&b"p@ss"[..]));
        assert_eq!(parsed.config.get_dbname(), Some("app"));
        assert_eq!(parsed.config.get_ssl_mode(), SslMode::Disable);
        assert_eq!(parsed.settings, [("lock_timeout".to_owned(), "1s".to_owned())]);
        assert!(parsed.tls.is_none());
    }

    #[test]
    fn a_password_may_look_like_options() {
        let config = parse("postgres://u:a?sslmode=disable&b=/c@db.example/app").unwrap().config;
        assert_eq!(config.get_password(), Some(&b"a?sslmode=disable&b=/c"[..]));
        assert_eq!(config.get_ssl_mode(), SslMode::Prefer);
    }

    #[test]
    fn what_the_url_says_comes_before_the_defaults() {
        let plain = parse("postgres://db.example/app").unwrap();
        assert_eq!(plain.config.get_application_name(), Some("model-experiments"));
        assert_eq!(plain.connect_timeout, CONNECT_TIMEOUT);
        assert_eq!(plain.statement_timeout, None);
        let set = parse(
            "postgres://db.example/app?application_name=gw&connect_timeout=2&options=-c%20statement_timeout%3D7s",
        )
        .unwrap();
        assert_eq!(set.config.get_application_name(), Some("gw"));
        assert_eq!(set.connect_timeout, Duration::from_secs(2));
        assert_eq!(set.statement_timeout, Some(Duration::from_secs(7)));
        assert_eq!(set.settings, []);
    }

    #[test]
    fn encrypts_where_the_server_can_unless_told_otherwise() {
        let mode = |url: &str| parse(url).map(|parsed| parsed.config.get_ssl_mode());
        assert_eq!(mode("postgresql://db.example/app"), Ok(SslMode::Prefer));
        assert_eq!(mode("postgresql://db.example/app?sslmode=require"), Ok(SslMode::Require));
        assert_eq!(mode("postgresql://db.example/app?ssl%6Dode=require"), Ok(SslMode::Require));
        assert_eq!(mode("postgresql:///app?host=/run/pg&sslmode=require"), Ok(SslMode::Disable));
        let over_tcp = "postgresql:///app?hostaddr=127.0.0.1&sslmode=require";
        assert_eq!(mode(over_tcp), Ok(SslMode::Require));
        assert_eq!(mode(&over_tcp.replace('?', "?host=/run/pg&")), Ok(SslMode::Require));
        assert_eq!(mode("postgresql://%2Frun%2Fpg/app"), Ok(SslMode::Disable));
    }

    #[test]
    fn the_systems_certificates_are_for_full_verification() {
        let system = |mode: &str| format!("postgres://db.example/?{mode}sslrootcert=system");
        for weak in ["disable", "prefer", "require", "verify-ca"] {
            let error = refusal(&system(&format!("sslmode={weak}&")));
            assert_eq!(error, "sslrootcert=system needs sslmode=verify-full");
        }
    }

    #[test]
    fn what_no_server_takes_is_refused_before_it_is_connected_to() {
        const NUL: &str = "the connection URL must not contain a NUL character";
        for nul in ["\0", "%00"] {
            for url in
                ["u:secretX@db.example/app", "X/app", "db.example/X", "db.example/?options=X"]
            {
                assert_eq!(refusal(&format!("postgres://{}", url.replace('X', nul))), NUL);
            }
        }
        assert!(parse("postgres://u:a%2500@db.example/app").is_ok());

        let long = |bytes: usize| format!("postgres://u:{:a>1$}@db.example/", "", bytes - 25);
        assert!(parse(&long(65_536)).is_ok());
        assert_eq!(refusal(&long(65_537)), "the connection URL must be at most 65536 bytes long");
    }

    #[test]
    fn what_is_not_utf_8_is_refused_except_in_a_password() {
        let config = parse("postgres://u:%ff@db.example/app").unwrap().config;
        assert_eq!(config.get_password(), Some(&b"\xff"[..]));
        for url in [
            "%ff:secret@db.example/",
            "u:secret@db.example/%ff",
            "u:secret@%ff/",
            "u:secret@db.example/?sslrootcert=/x%ff.pem",
            "u:secret@db.example/?sslmode=%ff",
            "u:secret@db.example/?%ff=1",
            "u:secret@db.example/?%FFsslmode=require",
            "u:secret@db.example/?application_name=%ff",
        ] {
            let error = refusal(&format!("postgres://{url}"));
            assert!(error.contains("UTF-8") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn white_space_around_a_url_is_named() {
        let url = "postgres://u:secret@db.example/app";
        assert!(refusal(&format!("{url}\n")).contains("end with a newline"));
        assert!(refusal(&format!("{url}\r\n")).contains("end with a newline"));
        assert!(refusal(&format!(" {url}")).contains("begin or end with white space"));
        assert!(refusal(&format!("{url}\t")).contains("begin or end with white space"));
    }

    /// A password with reserved characters, and none that an error's own words contain.
    fn password() -> impl Strategy<Value = String> {
        const PIECES: [&str; 14] =
            ["QXZ", "JQ", "7", "9X", "Z", "@", "&", "?", "=", "/", ":", "#", "%", "%7A"];
        vec(select(&PIECES[..]), 2..12).prop_map(|pieces| pieces.concat())
    }

    /// An error with all that its sources say.
    fn whole(error: &Error) -> String {
        format!("{error} {error:?} {}", Cause::with_sources(error))
    }

    #[track_caller]
    fn assert_hides(text: &str, password: &str, url: &str) {
        for run in password.as_bytes().windows(4) {
            let run = str::from_utf8(run).unwrap();
            assert!(!text.contains(run), "{run} of {url}: {text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

        #[test]
        fn no_piece_of_a_password_is_shown_or_taken_for_something_else(password in password()) {
            for form in [
                "u:*@h/d",
                "u:*@h/d?application_name=g",
                "u:*@h/d?colour=red",
                "u:*@h:port/d",
                "u:*@h/d?sslmode=no",
                "u@h/d?password=*",
                "u@h/d?password=*&application_name=g",
                "h/d?user=u&password=*",
                "h:5432/d?password=*&user=u&colour=red",
                "h/d?user=u@server&password=*",
                "?user=u&password=*&host=h",
            ] {
                let url = format!("postgres://{}", form.replace('*', &password));
                match parse(&url) {
                    Err(error) => assert_hides(&whole(&error), &password, &url),
                    Ok(Parsed { mut config, hosts, .. }) => {
                        config.password("");
                        assert_hides(&format!("{config:?} {hosts:?}"), &password, &url);
                    }
                }
            }
            // Without a host, a password may look like a port and a database. Its @ ends it.
            for form in ["u:*", "u:*?colour=red", "u:5432?*=red"] {
                let password = password.replace('@', "");
                let url = format!("postgres://{}", form.replace('*', &password));
                if let Err(error) = parse(&url) {
                    assert_hides(&whole(&error), &password, &url);
                }
            }
        }
    }

    #[test]
    fn a_piece_of_a_password_is_not_named_as_an_option() {
        for url in [
            "postgres://h/d?user=u&password=pa&secret=x",
            "postgres://h/d?password=pa&secret&application_name=x",
            "postgres://u@h/d?p%61ssword=pa&secret=x",
            "postgres://h/d?secret=x",
        ] {
            let error = parse(url).err().unwrap();
            assert!(!whole(&error).contains("secret"), "{error:?}");
            assert!(error.to_string().contains("%26"), "{error}");
        }
        for url in [
            "postgres://u:pa@secret@h/d",
            "postgres://u:pa@secret/x@h/d",
            "postgres://u:pa@h?application_name=secret@h/d",
            "postgres://h/d?user=u&password=pa@secret",
            "postgres://u@h/d?password=pa@secret",
        ] {
            let error = parse(url).err().unwrap();
            assert!(!whole(&error).contains("secret"), "{error:?}");
            assert!(error.to_string().contains("%40"), "{error}");
        }
    }

    #[test]
    fn says_what_of_a_url_is_wrong_and_not_the_password() {
        assert!(refusal("host=db.example").contains("must begin with postgres://"));
        let error = refusal("postgres://u:secret@db.example/app?sslmode=allow");
        assert!(error.contains("sslmode must be one of disable, prefer"), "{error}");
        assert!(!error.contains("secret"));
        let error = refusal("postgres://u:secret@db.example:port/app");
        assert!(error.contains("port") && !error.contains("secret"), "{error}");
        let error = refusal("postgres://u:ab@c?secret=x@db.example/app");
        assert!(error.contains("%40") && !error.contains("secret"), "{error}");
        let error = refusal("postgres://u:secret@db.example/app?colour=red");
        assert!(error.contains("colour") && !error.contains("secret"), "{error}");
        let error = refusal("postgres://db.example/?sslmode=verify-full&sslrootcert=/no/such.pem");
        assert!(error.contains("/no/such.pem"), "{error}");
    }
}
