//! Connecting to PostgreSQL, over TLS where the URL asks for it.

mod tls;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::AsyncPgConnection;
use percent_encoding::percent_decode_str;
use std::error::Error as StdError;
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::tls::TlsMode;
use crate::error::{Error, Result};

/// How long one attempt to connect to one host may take, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one statement may take, unless the URL or the pool says otherwise.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where and how to connect: a parsed connection URL.
///
/// The URL is PostgreSQL's own, `postgres://user:password@host:port/database?option=value`, with
/// `sslmode` one of `disable`, `prefer` (the default), `require`, `verify-ca` and `verify-full`.
/// `sslrootcert` is a file of PEM certificates to trust; without it, or when it is `system`, the
/// system's own are. As with libpq, `require` with a file verifies the chain, and a Unix socket is never
/// encrypted. A server's certificate must have the host in its subject alternative names.
#[derive(Clone)]
pub(crate) struct ConnectOptions {
    config: tokio_postgres::Config,
    tls: Option<MakeRustlsConnect>,
}

/// Connects to `url`, outside of any pool.
///
/// Unless the URL says otherwise, connecting to a host takes 5 seconds at most and a statement 30.
///
/// # Errors
///
/// [`Error::Configuration`] when the URL can't be used, [`Error::Transient`] when the server can't be
/// reached.
pub async fn connect(url: &str) -> Result<AsyncPgConnection> {
    Ok(ConnectOptions::parse(url)?.connect().await?)
}

impl ConnectOptions {
    /// Parses `url`, and reads the certificates to trust.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(Error::Configuration(
                "the connection URL must begin with postgres:// or postgresql://".to_owned(),
            ));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        if query.contains('@') {
            // Part of a password, which no error may repeat.
            return Err(Error::Configuration(
                "the connection URL can't be parsed: write ? and @ of a password as %3F and %40"
                    .to_owned(),
            ));
        }
        let mut mode = TlsMode::Prefer;
        let mut root_cert = None;
        let mut rest = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("sslmode", value)) => mode = value.parse()?,
                Some(("sslrootcert", value)) => {
                    let path = percent_decode_str(value).decode_utf8_lossy().into_owned();
                    root_cert = (path != "system").then(|| PathBuf::from(path));
                }
                _ => rest.push(option),
            }
        }
        let mut config: tokio_postgres::Config = format!("{base}?{}", rest.join("&"))
            .parse()
            .map_err(|error: tokio_postgres::Error| {
                Error::Configuration(with_cause("the connection URL can't be parsed", &error))
            })?;
        if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
            mode = TlsMode::Disable;
        }
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
        let tls = tls::client_config(mode, root_cert.as_deref())?.map(MakeRustlsConnect::new);
        let options = Self { config, tls };
        let has_timeout =
            options.config.get_options().is_some_and(|set| set.contains("statement_timeout"));
        Ok(if has_timeout { options } else { options.statement_timeout(STATEMENT_TIMEOUT) })
    }

    /// What the server shows the connection as.
    pub(crate) fn application_name(mut self, name: &str) -> Self {
        self.config.application_name(name);
        self
    }

    /// How long one statement may take; zero for as long as it wants.
    pub(crate) fn statement_timeout(mut self, timeout: Duration) -> Self {
        let before = self.config.get_options().unwrap_or_default();
        let options = format!("{before} -c statement_timeout={}", timeout.as_millis());
        self.config.options(options.trim_start());
        self
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> ConnectionResult<AsyncPgConnection> {
        match self.tls.clone() {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls).await.map_err(refused)?;
                AsyncPgConnection::try_from_client_and_connection(client, connection).await
            }
            None => {
                let (client, connection) =
                    self.config.connect(tokio_postgres::NoTls).await.map_err(refused)?;
                AsyncPgConnection::try_from_client_and_connection(client, connection).await
            }
        }
    }
}

/// Why the connection wasn't made: the server's word, or trouble on the way.
fn refused(error: tokio_postgres::Error) -> ConnectionError {
    if let Some(error) = error.as_db_error() {
        let message = error.message().to_owned();
        return match error.code().code().get(..2) {
            // A role, password, database or option that won't do.
            Some("22" | "28" | "3D" | "42") => ConnectionError::InvalidConnectionUrl(message),
            _ => ConnectionError::CouldntSetupConfiguration(DieselError::DatabaseError(
                DatabaseErrorKind::Unknown,
                Box::new(message),
            )),
        };
    }
    let message = with_cause("connecting failed", &error);
    // Neither a certificate that isn't trusted nor a missing password mends itself.
    if tls::is_refusal(&error) {
        ConnectionError::InvalidConnectionUrl(message)
    } else {
        ConnectionError::BadConnection(message)
    }
}

fn with_cause(what: &str, error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(cause) => format!("{what}: {error}: {cause}"),
        None => format!("{what}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        match ConnectOptions::parse(url) {
            Err(Error::Configuration(message)) => message,
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
        let mode = |url| ConnectOptions::parse(url).map(|options| options.config.get_ssl_mode());
        assert_eq!(mode("postgresql://db.example/app"), Ok(SslMode::Prefer));
        assert_eq!(mode("postgresql://db.example/app?sslmode=require"), Ok(SslMode::Require));
        assert_eq!(mode("postgresql:///app?host=/run/pg&sslmode=require"), Ok(SslMode::Disable));
        assert_eq!(mode("postgresql://%2Frun%2Fpg/app"), Ok(SslMode::Disable));
    }

    #[test]
    fn says_what_of_a_url_is_wrong_and_not_the_password() {
        assert!(refusal("host=db.example").contains("must begin with postgres://"));
        let error = refusal("postgres://u:secret@db.example/app?sslmode=allow");
        assert!(error.contains("sslmode must be one of disable, prefer"), "{error}");
        assert!(!error.contains("secret"));
        let error = refusal("postgres://u:secret@db.example:port/app");
        assert!(error.contains("port") && !error.contains("secret"), "{error}");
        let error = refusal("postgres://u:ab?secret=x@db.example/app");
        assert!(error.contains("%3F") && !error.contains("secret"), "{error}");
        let error = refusal("postgres://u:secret@db.example/app?colour=red");
        assert!(error.contains("colour") && !error.contains("secret"), "{error}");
        let error = refusal("postgres://db.example/?sslmode=verify-full&sslrootcert=/no/such.pem");
        assert!(error.contains("/no/such.pem"), "{error}");
    }
}
