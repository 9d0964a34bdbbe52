//! TLS as libpq's parameters have it, by rustls.

mod channel_binding;
pub(super) mod client_certificate;
pub(super) mod connector;
pub(super) mod pem_file;
mod possession;
mod verifier;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, SupportedProtocolVersion};
use std::error::Error as StdError;
use std::sync::Arc;

use crate::database::tls::client_certificate::ClientFiles;
use crate::database::tls::connector::Connector;
use crate::database::tls::pem_file::PemFile;
use crate::database::tls::verifier::{AnyCertificate, Chain, TrustedCertificate};
use crate::error::{Cause, Error, Result};

/// The protocol that a server of PostgreSQL speaks, by its registered name.
const PROTOCOL: &[u8] = b"postgresql";

/// The `sslmode` of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsMode {
    /// No encryption.
    Disable,
    /// Encryption if the server offers it, with any certificate.
    Prefer,
    /// Encryption, with any certificate.
    Require,
    /// Encryption, with a certificate of a trusted authority.
    VerifyCa,
    /// Encryption, with a certificate of a trusted authority for the host.
    VerifyFull,
}

/// How to encrypt.
#[derive(Debug)]
pub(super) struct TlsOptions<'a> {
    pub(super) mode: TlsMode,
    /// The file of certificates to trust in place of the system's.
    pub(super) root_cert: Option<PemFile<'a>>,
    pub(super) client: Option<ClientFiles<'a>>,
    /// Whether the server must ask for the client's certificate.
    pub(super) must_ask: bool,
    /// Whether the server is told the name of the host.
    pub(super) tells_name: bool,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    /// Whether TLS begins without asking the server for it.
    pub(super) is_direct: bool,
}

impl TlsOptions<'_> {
    /// What encrypts so; `None` where nothing is encrypted.
    pub(super) fn connector(&self) -> Result<Option<Connector>> {
        let provider = Arc::new(ring::default_provider());
        let any = || Arc::new(AnyCertificate { provider: Arc::clone(&provider) });
        let trusted = |verifies_name| -> Result<Arc<dyn ServerCertVerifier>> {
            let chain = Chain::new(self.root_cert, &provider)?;
            let provider = Arc::clone(&provider);
            Ok(Arc::new(TrustedCertificate { chain, verifies_name, provider }))
        };
        let verifier = match (self.mode, self.root_cert) {
            (TlsMode::Disable, _) => return Ok(None),
            (TlsMode::Prefer, _) | (TlsMode::Require, None) => any(),
            (TlsMode::Require, Some(_)) | (TlsMode::VerifyCa, _) => trusted(false)?,
            (TlsMode::VerifyFull, _) => trusted(true)?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions)
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match self.client {
            Some(files) => {
                let certificate = SingleCertAndKey::from(files.read(&provider)?);
                builder.with_client_cert_resolver(Arc::new(certificate))
            }
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = self.tells_name;
        // PostgreSQL resumes no session, and each handshake is to be verified.
        config.resumption = Resumption::disabled();
        if self.is_direct {
            config.alpn_protocols = vec![PROTOCOL.to_vec()];
        }
        Ok(Some(Connector { config: Arc::new(config), must_ask: self.must_ask }))
    }
}

/// Whether we or the driver refused, rather than the network failed: an untrusted certificate, a
/// server without TLS, a missing password.
pub(super) fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|source| match source.downcast_ref::<std::io::Error>() {
        Some(error) => error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()),
        None => true,
    })
}

fn unusable(error: impl StdError + Send + Sync + 'static) -> Error {
    Error::configuration(Cause::new(format!("TLS can't be set up: {error}"), error))
}
