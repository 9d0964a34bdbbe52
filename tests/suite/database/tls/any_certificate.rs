//! Certificates of every kind that `openssl` makes, each held against what `psql` does with it.

use crate::database::tls::openssl::{
    self, ED25519, Key, P_256, P_384, P_521, RSA_2048, RSA_4096, RSA_PSS,
};
use crate::database::tls::{TcpServer, WITHOUT};
use crate::support::connect;
use crate::support::fixtures::{eventually, raw, text};
use crate::support::postgres::Binaries;
use model_experiments::Error;
use std::io;
use std::path::Path;
use std::process::Command;

/// A kind of certificate.
struct Kind {
    name: &'static str,
    key: Key,
    is_version_1: bool,
    hash: &'static str,
    /// Whether its signature has a hash that the channel is bound by.
    is_bound: bool,
    /// Whether TLS 1.2 is possible. rustls has no key exchange on P-521, which the server demands.
    has_tls_1_2: bool,
    /// Whether `verify-full` takes it from the file of trusted ones.
    is_verified: bool,
}

impl Kind {
    const fn new(name: &'static str, key: Key) -> Self {
        Self {
            name,
            key,
            is_version_1: false,
            hash: "-sha256",
            is_bound: true,
            has_tls_1_2: true,
            is_verified: true,
        }
    }

    fn make(&self, directory: &Path) -> io::Result<()> {
        openssl::key(directory, self.name, self.key)?;
        if self.is_version_1 {
            openssl::version_1(directory, self.name, "localhost", None)
        } else {
            openssl::self_signed(directory, self.name, "localhost", self.hash)
        }
    }
}

const KINDS: [Kind; 10] = [
    Kind { is_version_1: true, is_verified: false, ..Kind::new("rsa-v1", RSA_2048) },
    Kind { is_version_1: true, is_verified: false, ..Kind::new("ec-v1", P_256) },
    Kind::new("p-256", P_256),
    Kind::new("p-384", P_384),
    Kind { is_verified: false, has_tls_1_2: false, ..Kind::new("p-521", P_521) },
    Kind {
        is_verified: false,
        has_tls_1_2: false,
        hash: "-sha512",
        ..Kind::new("p-521-sha-512", P_521)
    },
    Kind::new("rsa-2048", RSA_2048),
    Kind { hash: "-sha384", ..Kind::new("rsa-4096", RSA_4096) },
    Kind { is_verified: false, has_tls_1_2: false, ..Kind::new("rsa-pss", RSA_PSS) },
    Kind { is_bound: false, ..Kind::new("ed25519", ED25519) },
];

/// A server that has all of them, and a role `bound` with a password.
fn start() -> io::Result<TcpServer> {
    TcpServer::start(|directory| {
        for kind in &KINDS {
            kind.make(directory)?;
        }
        std::fs::copy(directory.join("p-256.pem"), directory.join("server.pem"))?;
        std::fs::copy(directory.join("p-256.key"), directory.join("server.key"))?;
        let rules = "local all all trust\n\
                     hostssl all bound 127.0.0.1/32 scram-sha-256\n\
                     host all all 127.0.0.1/32 trust\n";
        std::fs::write(directory.join("hba.conf"), rules)?;
        Ok(vec!["ssl=on".to_owned(), format!("hba_file={}", directory.join("hba.conf").display())])
    })
}

/// What `psql` says to the URL, if it is there.
fn psql(url: &str) -> Option<Result<(), String>> {
    let psql = Binaries::find(|_| {}).unwrap().directory().join("psql");
    let mut command = Command::new(psql);
    command.args(["-X", "-w", "-A", "-t", "-c", "SELECT 1", url]).env("PGCONNECT_TIMEOUT", "20");
    let output = command.output().ok()?;
    Some(match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    })
}

#[tokio::test]
async fn any_certificate_will_do_whose_key_the_server_holds() {
    if !openssl::is_installed() {
        return;
    }
    let server = match start() {
        Ok(server) => server,
        Err(error) if error.to_string().contains(WITHOUT) => {
            return eprintln!("skipped: {WITHOUT} of PostgreSQL");
        }
        Err(error) => panic!("{error}"),
    };
    let directory = server.server.directory();
    let conn = &mut connect(&server.server.url("postgres")).await.unwrap();
    raw(conn, "CREATE ROLE bound LOGIN PASSWORD 'a secret'").await.unwrap();
    for kind in &KINDS {
        let name = kind.name;
        // The file is of the setting on the command line, which no other changes.
        for (from, to) in [("pem", "server.pem"), ("key", "server.key")] {
            let contents = std::fs::read(directory.join(format!("{name}.{from}"))).unwrap();
            std::fs::write(directory.join(to), contents).unwrap();
        }
        raw(conn, "SELECT pg_reload_conf()").await.unwrap();
        let expected = openssl::fingerprint(directory, &format!("{name}.pem")).unwrap();
        eventually("the server shows the certificate", async || {
            let address = format!("127.0.0.1:{}", server.port);
            let show = ["s_client", "-starttls", "postgres", "-connect", &address];
            let shown = openssl::openssl(directory, &show).unwrap_or_default();
            std::fs::write(directory.join("shown.pem"), shown).unwrap();
            openssl::fingerprint(directory, "shown.pem").is_ok_and(|shown| shown == expected)
        })
        .await;
        assert_taken(&server, kind).await;
    }
}

/// Fails unless `kind` is taken as it is by `psql`, which takes each of them.
async fn assert_taken(server: &TcpServer, kind: &Kind) {
    let name = kind.name;
    let said = |url: &str| psql(url).unwrap_or(Ok(()));
    for mode in ["prefer", "require"] {
        let url = server.url("localhost", &format!("sslmode={mode}"));
        assert_eq!(tls_version(&url).await.as_deref(), Ok("TLSv1.3"), "{name}");
        assert_eq!(said(&url), Ok(()), "{name}");
    }

    let old = server.url("localhost", "sslmode=require&ssl_max_protocol_version=TLSv1.2");
    match tls_version(&old).await {
        Ok(version) => assert!(kind.has_tls_1_2 && version == "TLSv1.2", "{name}: {version}"),
        Err(error) => assert!(!kind.has_tls_1_2, "{name}: {error}"),
    }
    assert_eq!(said(&old), Ok(()), "{name}");

    let binding = server.url("localhost", "sslmode=require&channel_binding=require");
    let binding = binding.replace("//postgres@", "//bound:a%20secret@");
    let bound = tls_version(&binding).await;
    assert_eq!(bound.is_ok(), kind.is_bound, "{name}: {bound:?}");
    assert_eq!(said(&binding).is_ok(), kind.is_bound, "{name}");
    let unbound = binding.replace("channel_binding=require", "channel_binding=disable");
    assert_eq!(tls_version(&unbound).await.as_deref(), Ok("TLSv1.3"), "{name}");

    let verifying = server.trusting("localhost", "verify-full", &format!("{name}.pem"));
    let verified = tls_version(&verifying).await;
    assert_eq!(verified.is_ok(), kind.is_verified, "{name}: {verified:?}");
}

/// The version of TLS that a connection to the URL has.
async fn tls_version(url: &str) -> Result<String, Error> {
    let conn = &mut connect(url).await?;
    let sql = "SELECT version AS text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(text(conn, sql).await)
}
