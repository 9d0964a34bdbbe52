//! Connecting to PostgreSQL, over TLS where the URL asks for it.

use diesel_async::AsyncPgConnection;
use futures_util::stream::{self, BoxStream, StreamExt};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::CancelToken;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::database::tls::{self, TlsMode};
use crate::error::{Cause, Error, Result, Transient};
use crate::values::{InvalidValue, indexable, storable};

/// The longest attempt to connect to one host, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest statement, unless the URL or the caller says otherwise.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// What the server says unasked. Polling it drives the connection.
pub(crate) type Messages = BoxStream<'static, Result<AsyncMessage, tokio_postgres::Error>>;

/// Where and how to connect. One value serves a [`Pool`](crate::Pool), a
/// [`Recorder`](crate::Recorder), a [`RoutingCache`](crate::RoutingCache) and the
/// [`migrations`](crate::migrations).
///
/// ```
/// use model_experiments::ConnectOptions;
///
/// # fn main() -> model_experiments::Result<()> {
/// let options = ConnectOptions::parse("postgres://gateway@db.example/app?sslmode=require")?
///     .application_name("gateway");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct ConnectOptions {
    config: tokio_postgres::Config,
    tls: Option<MakeRustlsConnect>,
}

impl ConnectOptions {
    /// Parses PostgreSQL's own URL, and reads the certificates to trust.
    ///
    /// `sslmode` is one of `disable`, `prefer` (the default), `require`, `verify-ca` and
    /// `verify-full`. `sslrootcert` names a file of PEM certificates to trust in place of the
    /// system's. As in libpq, `require` with such a file verifies the chain, `sslrootcert=system`
    /// asks for `verify-full`, and a Unix socket is never encrypted. For `verify-full` the server's
    /// certificate must have the host among its subject alternative names.
    ///
    /// Unless the URL says otherwise, connecting to a host takes 5 seconds at most, a statement
    /// takes 30 seconds at most, and the application name is this crate's.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] when the URL or a certificate can't be used.
    pub fn parse(url: &str) -> Result<Self> {
        storable("the connection URL", url).map_err(unusable)?;
        if url.contains("%00") {
            return Err(Error::configuration(
                "the connection URL must not contain a NUL character".to_owned(),
            ));
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(Error::configuration(
                "the connection URL must begin with postgres:// or postgresql://".to_owned(),
            ));
        }
        require_one_at_sign(url)?;
        // User name and password end at the @ and may contain any other character.
        let authority = url.find('@').unwrap_or_default();
        let options = url[authority..].find('?').map_or(url.len(), |at| authority + at);
        let (base, query) = url.split_at(options);
        let query = query.trim_start_matches('?');
        let mut mode = None;
        let mut root_cert = None;
        let mut has_password = false;
        let mut rest = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match decoded(name)?.as_str() {
                "sslmode" => mode = Some(decoded(value)?.parse()?),
                "sslrootcert" => root_cert = Some(decoded(value)?),
                name => {
                    has_password |= name == "password";
                    rest.push(option);
                }
            }
        }
        let mut config: tokio_postgres::Config = format!("{base}?{}", rest.join("&"))
            .parse()
            .map_err(|error| unparsable(error, authority > 0 && !has_password))?;
        let (mode, root_cert) = match (mode, root_cert.as_deref()) {
            (None | Some(TlsMode::VerifyFull), Some("system")) => (TlsMode::VerifyFull, None),
            (Some(_), Some("system")) => {
                return Err(Error::configuration(
                    "sslrootcert=system needs sslmode=verify-full".to_owned(),
                ));
            }
            (mode, path) => (mode.unwrap_or(TlsMode::Prefer), path.map(Path::new)),
        };
        let is_unix = |host: &Host| matches!(host, Host::Unix(_));
        let is_local = config.get_hostaddrs().is_empty()
            && !config.get_hosts().is_empty()
            && config.get_hosts().iter().all(is_unix);
        let mode = if is_local { TlsMode::Disable } else { mode };
        if config.get_application_name().is_none() {
            config.application_name(env!("CARGO_PKG_NAME"));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.ssl_mode(match mode {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
        let tls = tls::client_config(mode, root_cert)?.map(MakeRustlsConnect::new);
        let options = Self { config, tls };
        let has_timeout =
            options.config.get_options().is_some_and(|set| set.contains("statement_timeout"));
        Ok(if has_timeout { options } else { options.statement_timeout(STATEMENT_TIMEOUT) })
    }

    /// The name under which the server shows the connection, at most 2,048 bytes. Connecting
    /// refuses another.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.config.application_name(name);
        self
    }

    /// The longest time that the server lets a statement run. Zero is no limit.
    pub fn statement_timeout(self, timeout: Duration) -> Self {
        // The server counts in milliseconds, and takes none for no timeout.
        let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
        self.setting("statement_timeout", &milliseconds.to_string())
    }

    /// A setting of the server that needs no escaping.
    pub(crate) fn setting(mut self, name: &str, value: &str) -> Self {
        let before = self.config.get_options().unwrap_or_default();
        let options = format!("{before} -c {name}={value}");
        self.config.options(options.trim_start());
        self
    }

    /// Takes only a server that takes writes, where the URL names several.
    pub(crate) fn primary(mut self) -> Self {
        self.config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        self
    }

    /// Connects, and gives each host `timeout` to answer, so that a silent one doesn't keep the
    /// next from being tried.
    pub(crate) async fn connect_within(&self, timeout: Duration) -> Result<AsyncPgConnection> {
        answered(self.for_each_host(timeout), self.connect()).await
    }

    /// Connects without Diesel, and gives each host `timeout` to answer.
    pub(crate) async fn connect_client_within(
        &self,
        timeout: Duration,
    ) -> Result<(Client, Messages)> {
        answered(self.for_each_host(timeout), self.connect_client()).await
    }

    fn for_each_host(&self, timeout: Duration) -> Duration {
        let hosts = self.config.get_hosts().len().max(self.config.get_hostaddrs().len());
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX).max(1);
        timeout.saturating_mul(hosts)
    }

    /// Refuses what no server takes.
    pub(crate) fn check(&self) -> Result<()> {
        // The server takes 10,000 bytes of options, and keeps 63 of the application name.
        let name = self.config.get_application_name().unwrap_or_default();
        indexable("application_name", name).map_err(unusable)
    }

    /// Connects, outside of any pool.
    ///
    /// The server finishes a statement whose future was dropped, as long as its timeout allows. A
    /// [`Pool`](crate::Pool) cancels it; here, [`AsyncPgConnection::cancel_token`] does.
    ///
    /// # Errors
    ///
    /// [`Error::Transient`] when the server can't be reached, [`Error::Configuration`] when it
    /// refuses the connection or its certificate.
    pub async fn connect(&self) -> Result<AsyncPgConnection> {
        self.check()?;
        let connected = match self.tls.clone() {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls).await.map_err(refused)?;
                AsyncPgConnection::try_from_client_and_connection(client, connection).await
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(refused)?;
                AsyncPgConnection::try_from_client_and_connection(client, connection).await
            }
        };
        connected.map_err(Error::from_connection)
    }

    /// Asks the server to cancel the running statement of the connection that `token` is of. The
    /// server doesn't say whether there was one.
    pub(crate) async fn cancel(&self, token: &CancelToken) -> Result<()> {
        let asked = match self.tls.clone() {
            Some(tls) => token.cancel_query(tls).await,
            None => token.cancel_query(NoTls).await,
        };
        asked.map_err(refused)
    }

    async fn connect_client(&self) -> Result<(Client, Messages)> {
        self.check()?;
        Ok(match self.tls.clone() {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls).await.map_err(refused)?;
                (client, messages(connection))
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(refused)?;
                (client, messages(connection))
            }
        })
    }
}

fn messages<S>(mut connection: Connection<Socket, S>) -> Messages
where
    S: TlsStream + Unpin + Send + 'static,
{
    stream::poll_fn(move |context| connection.poll_message(context)).boxed()
}

/// Shows no password.
impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("hosts", &self.config.get_hosts())
            .field("database", &self.config.get_dbname())
            .field("application_name", &self.config.get_application_name())
            .finish_non_exhaustive()
    }
}

/// The answer, if it comes in time. Otherwise the connection counts as lost.
pub(crate) async fn answered<T>(
    within: Duration,
    asked: impl Future<Output = Result<T>>,
) -> Result<T> {
    timeout(within, asked).await.unwrap_or_else(|_| {
        Err(Error::transient(Transient::ConnectionLost, format!("no answer within {within:?}")))
    })
}

fn decoded(option: &str) -> Result<String> {
    let text = percent_decode_str(option).decode_utf8().map(Cow::into_owned);
    text.map_err(|error| {
        let message = "the connection URL has an option that isn't UTF-8";
        Error::configuration(Cause::new(message, error))
    })
}

/// The error of an option that no server takes.
fn unusable(invalid: InvalidValue) -> Error {
    Error::configuration(Cause::of(invalid))
}

/// Refuses a URL whose password has an unescaped @, so that no piece of it is taken for a host.
fn require_one_at_sign(url: &str) -> Result<()> {
    let (before, after) = url.split_once('@').unwrap_or((url, ""));
    let is_in_option = before.split_once('?').is_some_and(|(_, text)| text.contains("password="));
    if after.contains('@') || (is_in_option && before.len() < url.len()) {
        return Err(Error::configuration(
            "the connection URL can't be parsed: write %40 for each @ except the one before the \
             host"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The error of a URL that can't be parsed. It names an unknown option only if the name `is_safe`:
/// otherwise it may be a piece of a password with an unescaped &.
fn unparsable(error: tokio_postgres::Error, is_safe: bool) -> Error {
    const WHAT: &str = "the connection URL can't be parsed";
    if is_safe {
        Error::configuration(failed(WHAT, error))
    } else {
        Error::configuration(format!(
            "{WHAT}: check its host, port and options, and write %26 for & in a password"
        ))
    }
}

/// The error of a connection that the server refused, or that failed on the way.
fn refused(error: tokio_postgres::Error) -> Error {
    let Some(refusal) = error.as_db_error() else {
        // A retry helps neither an untrusted certificate nor a missing password.
        let is_refusal = tls::is_refusal(&error);
        let cause = failed("connecting failed", error);
        return if is_refusal {
            Error::configuration(cause)
        } else {
            Error::transient(Transient::ConnectionLost, cause)
        };
    };
    let message = refusal.message().to_owned();
    let code = refusal.code().code().to_owned();
    let cause = Cause::new(message, error);
    match (&*code, code.get(..2)) {
        ("53300", _) => Error::transient(Transient::TooManyConnections, cause),
        (_, Some("57")) => Error::transient(Transient::ServerUnavailable, cause),
        // A role, password, database or option that the server rejects.
        (_, Some("22" | "28" | "3D" | "42")) => Error::configuration(cause),
        _ => Error::database(cause),
    }
}

fn failed(what: &str, error: tokio_postgres::Error) -> Cause {
    Cause::new(format!("{what}: {}", Cause::with_sources(&error)), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn refusal(url: &str) -> String {
        match ConnectOptions::parse(url) {
            Err(Error::Configuration(cause)) => cause.message().to_owned(),
            Err(error) => panic!("{error:?}"),
            Ok(_) => panic!("{url} was parsed"),
        }
    }

    #[test]
    fn takes_postgresqls_own_urls() {
        let options = ConnectOptions::parse(
            "postgres://user:p%40ss@db.example:5433/app?options=-c%20lock_timeout%3D1s&sslmode=disable",
        )
        .unwrap()
        .application_name("gateway")
        .statement_timeout(Duration::from_secs(2));
        let config = options.config;
        assert_eq!(config.get_hosts(), [Host::Tcp("db.example".to_owned())]);
        assert_eq!(config.get_ports(), [5433]);
        assert_eq!(config.get_password(), Some(&b"p@ss"[..]));
        assert_eq!(config.get_ssl_mode(), SslMode::Disable);
        assert_eq!(
            config.get_options(),
            Some("-c lock_timeout=1s -c statement_timeout=30000 -c statement_timeout=2000")
        );
        assert_eq!(config.get_application_name(), Some("gateway"));
        assert!(options.tls.is_none());
    }

    #[test]
    fn a_password_may_look_like_options() {
        let options = ConnectOptions::parse("postgres://u:a?sslmode=disable&b=/c@db.example/app");
        let config = options.unwrap().config;
        assert_eq!(config.get_password(), Some(&b"a?sslmode=disable&b=/c"[..]));
        assert_eq!(config.get_ssl_mode(), SslMode::Prefer);
    }

    #[test]
    fn what_the_url_says_comes_before_the_defaults() {
        let config = |url| ConnectOptions::parse(url).unwrap().config;
        let plain = config("postgres://db.example/app");
        assert_eq!(plain.get_application_name(), Some("model-experiments"));
        assert_eq!(plain.get_connect_timeout(), Some(&CONNECT_TIMEOUT));
        assert_eq!(plain.get_options(), Some("-c statement_timeout=30000"));
        let set = config(
            "postgres://db.example/app?application_name=gw&connect_timeout=2&options=-c%20statement_timeout%3D7s",
        );
        assert_eq!(set.get_application_name(), Some("gw"));
        assert_eq!(set.get_connect_timeout(), Some(&Duration::from_secs(2)));
        assert_eq!(set.get_options(), Some("-c statement_timeout=7s"));
    }

    #[test]
    fn encrypts_where_the_server_can_unless_told_otherwise() {
        let mode =
            |url: &str| ConnectOptions::parse(url).map(|options| options.config.get_ssl_mode());
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
    fn each_host_has_its_time() {
        let second = Duration::from_secs(1);
        for (url, hosts) in [
            ("postgres://db.example/", 1),
            ("postgres:///app?host=/run/pg", 1),
            ("postgres://a.example,b.example,c.example/", 3),
            ("postgres:///app?hostaddr=127.0.0.1,127.0.0.2", 2),
        ] {
            let options = ConnectOptions::parse(url).unwrap();
            assert_eq!(options.for_each_host(second), hosts * second, "{url}");
        }
    }

    #[test]
    fn a_timeout_is_never_rounded_down_to_none() {
        let options = ConnectOptions::parse("postgres://db.example/").unwrap();
        let options = options.statement_timeout(Duration::from_micros(900));
        assert!(options.config.get_options().unwrap().ends_with("-c statement_timeout=1"));
        let options = options.statement_timeout(Duration::ZERO);
        assert!(options.config.get_options().unwrap().ends_with("-c statement_timeout=0"));
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
        assert!(ConnectOptions::parse("postgres://u:a%2500@db.example/app").is_ok());

        let long = |bytes: usize| format!("postgres://u:{:a>1$}@db.example/", "", bytes - 25);
        assert!(ConnectOptions::parse(&long(65_536)).is_ok());
        assert_eq!(refusal(&long(65_537)), "the connection URL must be at most 65536 bytes long");

        let named = |name: &str| {
            ConnectOptions::parse("postgres://db.example/").unwrap().application_name(name).check()
        };
        let refused =
            |reason: &str| Err(Error::configuration(format!("application_name {reason}")));
        assert_eq!(named("a\0"), refused("must not contain a NUL character"));
        assert_eq!(named(&"a".repeat(2_048)), Ok(()));
        assert_eq!(named(&"a".repeat(2_049)), refused("must be at most 2048 bytes long"));
    }

    #[test]
    fn what_is_not_utf_8_is_refused_except_in_a_password() {
        let url = "postgres://u:%ff@db.example/app";
        let config = ConnectOptions::parse(url).unwrap().config;
        assert_eq!(config.get_password(), Some(&b"\xff"[..]));
        for url in ["%ff:secret@db.example/", "u:secret@db.example/%ff", "u:secret@%ff/"] {
            let error = refusal(&format!("postgres://{url}"));
            assert!(error.contains("can't be parsed") && !error.contains("secret"), "{error}");
        }
        for option in ["sslrootcert=/x%ff.pem", "sslmode=%ff", "%ff=1", "%FFsslmode=require"] {
            let error = refusal(&format!("postgres://db.example/?{option}"));
            assert_eq!(error, "the connection URL has an option that isn't UTF-8");
        }
        let error = refusal("postgres://db.example/?application_name=%ff");
        assert!(error.contains("can't be parsed"), "{error}");
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
            ] {
                let url = format!("postgres://{}", form.replace('*', &password));
                match ConnectOptions::parse(&url) {
                    Err(error) => assert_hides(&whole(&error), &password, &url),
                    Ok(ConnectOptions { mut config, .. }) => {
                        config.password("");
                        assert_hides(&format!("{config:?}"), &password, &url);
                    }
                }
            }
            // Without a host, a password may look like a port and a database. Its @ ends it.
            for form in ["u:*", "u:*?colour=red", "u:5432?*=red"] {
                let password = password.replace('@', "");
                let url = format!("postgres://{}", form.replace('*', &password));
                if let Err(error) = ConnectOptions::parse(&url) {
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
            let error = ConnectOptions::parse(url).unwrap_err();
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
            let error = ConnectOptions::parse(url).unwrap_err();
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
