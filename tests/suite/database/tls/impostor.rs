//! Servers of our own, which can do what PostgreSQL doesn't: show a certificate without its key.

use crate::database::tls::openssl::{self, Key, P_256, P_521, RSA_2048};
use crate::support::connect;
use model_experiments::Error;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A kind of key, and how it signs.
struct Kind {
    name: &'static str,
    key: Key,
    algorithm: SignatureAlgorithm,
    scheme: SignatureScheme,
    /// The options of `openssl dgst` for it.
    sign: &'static [&'static str],
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "rsa",
        key: RSA_2048,
        algorithm: SignatureAlgorithm::RSA,
        scheme: SignatureScheme::RSA_PSS_SHA256,
        sign: &["-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"],
    },
    Kind {
        name: "p-256",
        key: P_256,
        algorithm: SignatureAlgorithm::ECDSA,
        scheme: SignatureScheme::ECDSA_NISTP256_SHA256,
        sign: &["-sha256"],
    },
    Kind {
        name: "p-521",
        key: P_521,
        algorithm: SignatureAlgorithm::ECDSA,
        scheme: SignatureScheme::ECDSA_NISTP521_SHA512,
        sign: &["-sha512"],
    },
];

/// A key in a file, by which `openssl` signs: `ring` has no P-521.
#[derive(Debug, Clone)]
struct FileKey {
    directory: PathBuf,
    file: String,
    algorithm: SignatureAlgorithm,
    scheme: SignatureScheme,
    sign: &'static [&'static str],
}

impl SigningKey for FileKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme).then(|| Box::new(self.clone()) as _)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

impl Signer for FileKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        std::fs::write(self.directory.join("message"), message).unwrap();
        let files = ["-sign", &self.file, "-out", "signature", "message"];
        let arguments = [&["dgst"], self.sign, &files].concat();
        openssl::openssl(&self.directory, &arguments).unwrap();
        Ok(std::fs::read(self.directory.join("signature")).unwrap())
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// A directory that is removed with this value.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(uuid::Uuid::now_v7().to_string());
        std::fs::create_dir(&directory).unwrap();
        Self(directory)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that shows the certificate of `kind` and signs by the key in `file`.
fn acceptor(
    directory: &Path,
    kind: &Kind,
    file: &str,
    version: &'static SupportedProtocolVersion,
    protocols: &[&[u8]],
) -> TlsAcceptor {
    let certificate = directory.join(format!("{}.pem", kind.name));
    let certificate = CertificateDer::from_pem_file(certificate).unwrap();
    let key = FileKey {
        directory: directory.to_owned(),
        file: file.to_owned(),
        algorithm: kind.algorithm,
        scheme: kind.scheme,
        sign: kind.sign,
    };
    let certified = CertifiedKey::new(vec![certificate], Arc::new(key));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Takes one client's handshake, and tells a client that goes on that the server is starting up.
/// Returns the host that the client named.
async fn serve(
    listener: &TcpListener,
    acceptor: &TlsAcceptor,
    is_direct: bool,
) -> io::Result<Option<String>> {
    const STARTING: &[u8] = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0";
    let (mut socket, _) = listener.accept().await?;
    if !is_direct {
        // The request for TLS has eight bytes.
        socket.read_exact(&mut [0; 8]).await?;
        socket.write_all(b"S").await?;
    }
    let mut socket = acceptor.accept(socket).await?;
    let host = socket.get_ref().1.server_name().map(str::to_owned);
    let length = socket.read_u32().await?;
    socket.read_exact(&mut vec![0; length as usize - 4]).await?;
    socket.write_u8(b'E').await?;
    socket.write_u32(STARTING.len() as u32 + 4).await?;
    socket.write_all(STARTING).await?;
    socket.shutdown().await?;
    Ok(host)
}

/// Fails unless the client got past the handshake.
#[track_caller]
fn assert_starting(error: Option<Error>, what: &str) {
    match error {
        Some(Error::Transient { cause, .. }) if cause.message().contains("starting up") => {}
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn a_server_without_the_key_of_its_certificate_is_refused() {
    if !openssl::is_installed() {
        return;
    }
    let directory = Directory::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for kind in &KINDS {
        let own = format!("{}.key", kind.name);
        openssl::key(&directory.0, kind.name, kind.key).unwrap();
        openssl::key(&directory.0, "other", kind.key).unwrap();
        openssl::version_1(&directory.0, kind.name, "localhost", None).unwrap();
        for (version, mode) in [(&TLS12, "prefer"), (&TLS13, "prefer"), (&TLS13, "require")] {
            let url = format!("postgres://u@{address}/d?sslmode={mode}");
            let name = format!("{} {mode} {version:?}", kind.name);
            let holder = acceptor(&directory.0, kind, &own, version, &[]);
            let (error, served) = tokio::join!(connect(&url), serve(&listener, &holder, false));
            served.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_starting(error.err(), &name);

            let impostor = acceptor(&directory.0, kind, "other.key", version, &[]);
            let (error, served) = tokio::join!(connect(&url), serve(&listener, &impostor, false));
            assert!(served.is_err(), "{name}");
            match error.err() {
                Some(Error::Configuration(cause)) => {
                    assert!(cause.message().contains("BadSignature"), "{name}: {cause}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_direct_handshake_needs_the_protocol_and_names_the_host_unless_told_not_to() {
    if !openssl::is_installed() {
        return;
    }
    let directory = Directory::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let kind = &KINDS[1];
    openssl::key(&directory.0, kind.name, kind.key).unwrap();
    openssl::version_1(&directory.0, kind.name, "localhost", None).unwrap();
    let key = format!("{}.key", kind.name);
    let knowing = acceptor(&directory.0, kind, &key, &TLS13, &[b"postgresql"]);
    let url = format!("postgres://u@localhost:{port}/d?sslmode=require&sslnegotiation=direct");
    for (option, named) in [("", Some("localhost")), ("&sslsni=0", None)] {
        let url = format!("{url}{option}");
        let (error, served) = tokio::join!(connect(&url), serve(&listener, &knowing, true));
        assert_eq!(served.unwrap().as_deref(), named);
        assert_starting(error.err(), option);
    }

    let other = acceptor(&directory.0, kind, &key, &TLS13, &[]);
    let (error, served) = tokio::join!(connect(&url), serve(&listener, &other, true));
    assert!(served.is_err());
    match error.err() {
        Some(Error::Configuration(cause)) => {
            assert!(cause.message().contains("sslnegotiation=direct"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}
