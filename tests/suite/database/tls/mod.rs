//! TLS by libpq's `sslmode` and `sslrootcert`, against servers whose certificates these tests make.

mod any_certificate;
mod client_certificate;
mod impostor;
mod openssl;

use crate::support::fixtures::{
    abandon, eventually, free_port, number, option, pid, raw, setting, until_gone,
};
use crate::support::postgres::{Binaries, Server};
use crate::support::{connect, options};
use diesel_async::AsyncPgConnection;
use model_experiments::{Error, Pool, PoolOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::io;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

/// The message of a server that was built without TLS, as the one of the Python wheel.
const WITHOUT: &str = "SSL is not supported by this build";

/// A server with a certificate for `localhost` of its own authority; `None` where PostgreSQL was
/// built without TLS.
fn tls() -> Option<&'static TcpServer> {
    static SERVER: LazyLock<Option<TcpServer>> = LazyLock::new(|| match start() {
        Ok(server) => Some(server),
        Err(error) if error.to_string().contains(WITHOUT) => None,
        Err(error) => panic!("{error}"),
    });
    if SERVER.is_none() {
        eprintln!("skipped: {WITHOUT} of PostgreSQL");
    }
    SERVER.as_ref()
}

fn start() -> io::Result<TcpServer> {
    TcpServer::start(|directory| {
        let authority = authority("ours")?;
        let (key, leaf) = (generated(KeyPair::generate())?, parameters("server", &["localhost"])?);
        std::fs::write(directory.join("root.pem"), authority.pem())?;
        std::fs::write(directory.join("other.pem"), self::authority("other")?.pem())?;
        std::fs::write(directory.join("empty.pem"), "")?;
        std::fs::write(directory.join("garbage.pem"), "no certificate")?;
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(directory.join("broken.pem"), broken)?;
        std::fs::write(
            directory.join("server.pem"),
            generated(leaf.signed_by(&key, &authority))?.pem(),
        )?;
        std::fs::write(directory.join("server.key"), key.serialize_pem())?;
        Ok(vec!["ssl=on".to_owned()])
    })
}

/// A server that listens on 127.0.0.1 too.
struct TcpServer {
    server: Server,
    port: u16,
}

impl TcpServer {
    fn start(configure: impl FnOnce(&Path) -> io::Result<Vec<String>>) -> io::Result<Self> {
        let port = free_port();
        let server = Server::start_with(&Binaries::find(|_| {})?, None, |directory| {
            let mut settings = configure(directory)?;
            settings.push("listen_addresses=127.0.0.1".to_owned());
            settings.push(format!("port={port}"));
            for (setting, file) in [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key")]
            {
                settings.push(format!("{setting}={}", directory.join(file).display()));
            }
            Ok(settings)
        })?;
        Ok(Self { server, port })
    }

    fn url(&self, host: &str, options: &str) -> String {
        format!("postgres://postgres@{host}:{}/postgres?{options}", self.port)
    }

    /// The URL with one of the server's files as the certificates to trust.
    fn trusting(&self, host: &str, mode: &str, root: &str) -> String {
        let root = self.server.directory().join(root);
        self.url(host, &format!("sslmode={mode}&sslrootcert={}", root.display()))
    }
}

fn generated<T>(result: Result<T, rcgen::Error>) -> io::Result<T> {
    result.map_err(io::Error::other)
}

fn parameters(name: &str, hosts: &[&str]) -> io::Result<CertificateParams> {
    let hosts: Vec<_> = hosts.iter().copied().map(str::to_owned).collect();
    let mut parameters = generated(CertificateParams::new(hosts))?;
    parameters.distinguished_name.push(DnType::CommonName, name);
    Ok(parameters)
}

fn authority(name: &str) -> io::Result<CertifiedIssuer<'static, KeyPair>> {
    let mut parameters = parameters(name, &[])?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    generated(CertifiedIssuer::self_signed(parameters, generated(KeyPair::generate())?))
}

async fn is_encrypted(conn: &mut AsyncPgConnection) -> bool {
    let sql =
        "SELECT count(*) FILTER (WHERE ssl AND version LIKE 'TLSv1.%') * 10 + count(*) AS number
               FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    match number(conn, sql).await {
        1 => false,
        11 => true,
        other => panic!("{other}"),
    }
}

async fn connects_encrypted(url: &str) -> bool {
    let mut conn = connect(url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    is_encrypted(&mut conn).await
}

/// Why the connection is refused. The error isn't retryable.
async fn refusal(url: &str) -> String {
    match connect(url).await.err() {
        Some(error @ Error::Configuration(_)) if !error.is_retryable() => error.to_string(),
        other => panic!("{url}: {other:?}"),
    }
}

#[tokio::test]
async fn encrypts_unless_told_not_to() {
    let Some(tls) = tls() else { return };
    assert!(!connects_encrypted(&tls.url("localhost", "sslmode=disable")).await);
    for options in ["", "sslmode=prefer", "sslmode=require"] {
        assert!(connects_encrypted(&tls.url("localhost", options)).await, "{options}");
    }
    // A Unix socket is never encrypted.
    let socket = option(&tls.server.url("postgres"), "sslmode=require");
    assert!(!connects_encrypted(&socket).await);
}

#[tokio::test]
async fn an_abandoned_statement_is_cancelled_over_tls() {
    let Some(tls) = tls() else { return };
    let watcher = &mut connect(&tls.url("localhost", "")).await.unwrap();
    let url = tls.trusting("localhost", "verify-full", "root.pem");
    let connect = options(&url).statement_timeout(Duration::ZERO);
    let pool = Pool::new(connect, PoolOptions::default().max_size(1)).unwrap();
    let mut conn = pool.get().await.unwrap();
    let backend = pid(&mut conn).await;
    abandon(watcher, backend, raw(&mut conn, "SELECT pg_sleep(600)")).await;
    drop(conn);
    until_gone(watcher, backend).await;
}

#[tokio::test]
async fn verify_full_accepts_only_the_given_authority_and_host() {
    let Some(tls) = tls() else { return };
    assert!(connects_encrypted(&tls.trusting("localhost", "verify-full", "root.pem")).await);
    let error = refusal(&tls.trusting("localhost", "verify-full", "other.pem")).await;
    assert!(error.contains("UnknownIssuer"), "{error}");
    let error = refusal(&tls.trusting("127.0.0.1", "verify-full", "root.pem")).await;
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn verify_ca_ignores_the_host() {
    let Some(tls) = tls() else { return };
    for host in ["localhost", "127.0.0.1"] {
        assert!(connects_encrypted(&tls.trusting(host, "verify-ca", "root.pem")).await, "{host}");
        let error = refusal(&tls.trusting(host, "verify-ca", "other.pem")).await;
        assert!(error.contains("UnknownIssuer"), "{host}: {error}");
    }
}

#[tokio::test]
async fn without_a_file_the_systems_authorities_count() {
    let Some(tls) = tls() else { return };
    refusal(&tls.url("localhost", "sslmode=verify-full")).await;
    for mode in ["verify-ca", "verify-full"] {
        refusal(&tls.url("localhost", &format!("sslmode={mode}&sslrootcert=system"))).await;
    }
    // Their authorities certify anybody.
    let error = refusal(&tls.url("localhost", "sslmode=verify-ca")).await;
    assert!(error.contains("sslmode=verify-ca needs sslrootcert"), "{error}");
}

#[tokio::test]
async fn require_with_a_file_verifies_the_chain_and_not_the_host() {
    let Some(tls) = tls() else { return };
    for host in ["localhost", "127.0.0.1"] {
        assert!(connects_encrypted(&tls.trusting(host, "require", "root.pem")).await, "{host}");
        let error = refusal(&tls.trusting(host, "require", "other.pem")).await;
        assert!(error.contains("UnknownIssuer"), "{host}: {error}");
    }
}

#[tokio::test]
async fn a_file_without_a_certificate_is_named() {
    let Some(tls) = tls() else { return };
    for file in ["missing.pem", "empty.pem", "garbage.pem", "broken.pem"] {
        for mode in ["require", "verify-ca", "verify-full"] {
            let error = refusal(&tls.trusting("localhost", mode, file)).await;
            assert!(error.contains(file), "{mode}: {error}");
        }
    }
}

#[tokio::test]
async fn a_pool_connects_over_tls() {
    let Some(tls) = tls() else { return };
    let url = tls.trusting("localhost", "verify-full", "root.pem");
    let connect = options(&url).application_name("over tls");
    let pool = Pool::new(connect, PoolOptions::default().max_size(2)).unwrap();
    pool.health().await.unwrap();
    let (first, second) = (&mut pool.get().await.unwrap(), &mut pool.get().await.unwrap());
    for conn in [first, second] {
        assert!(is_encrypted(conn).await);
        assert_eq!(setting(conn, "application_name").await, "over tls");
    }

    let other = options(&tls.trusting("localhost", "verify-full", "other.pem"));
    let pool = Pool::new(other, PoolOptions::default()).unwrap();
    let error = pool.get().await.err().unwrap();
    assert!(matches!(error, Error::Configuration(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_without_tls_is_enough_only_where_encryption_is_a_preference() {
    let plain = TcpServer::start(|directory| {
        let key = generated(KeyPair::generate())?;
        // As `openssl req -x509` makes it: marked as an authority's.
        let mut server = parameters("self", &["localhost"])?;
        server.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = generated(server.self_signed(&key))?;
        std::fs::write(directory.join("server.pem"), certificate.pem())?;
        std::fs::write(directory.join("server.key"), key.serialize_pem())?;
        std::fs::write(directory.join("other.pem"), authority("self")?.pem())?;
        Ok(Vec::new())
    })
    .unwrap();
    for options in ["", "sslmode=disable", "sslmode=prefer"] {
        assert!(!connects_encrypted(&plain.url("localhost", options)).await, "{options}");
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = plain.trusting("localhost", mode, "server.pem");
        let error = refusal(&url).await;
        assert!(error.contains("server does not support TLS"), "{error}");
    }

    // The same server, with a certificate that vouches for itself.
    let conn = &mut connect(&plain.url("localhost", "")).await.unwrap();
    match raw(conn, "ALTER SYSTEM SET ssl = on").await {
        Err(error) if error.to_string() == WITHOUT => return,
        altered => altered.unwrap(),
    }
    raw(conn, "SELECT pg_reload_conf()").await.unwrap();
    eventually("the server offers TLS", async || {
        connects_encrypted(&plain.url("localhost", "sslmode=prefer")).await
    })
    .await;
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = plain.trusting("localhost", mode, "server.pem");
        assert!(connects_encrypted(&url).await, "{mode}");
        // Another certificate of the same name vouches for nothing.
        refusal(&plain.trusting("localhost", mode, "other.pem")).await;
    }
    let error = refusal(&plain.trusting("127.0.0.1", "verify-full", "server.pem")).await;
    assert!(error.contains("not valid for name"), "{error}");
}
