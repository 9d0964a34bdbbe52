//! TLS as libpq's `sslmode` has it, by rustls.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::error::Error as StdError;
use std::path::Path;
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Cause, Error, Result};

/// What encrypts connections.
pub(super) type Connector = MakeRustlsConnect;

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

/// The TLS that `mode` asks for, with the certificates of `root_cert`, or the system's, as trusted.
pub(super) fn client_config(
    mode: TlsMode,
    root_cert: Option<&Path>,
) -> Result<Option<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let verified_by = |chain, verifies_name| {
        Some(
            builder
                .clone()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Verifier {
                    chain,
                    verifies_name,
                    provider: Arc::clone(&provider),
                }))
                .with_no_client_auth(),
        )
    };
    let chain = || Chain::new(root_cert, &provider).map(Some);
    Ok(match (mode, root_cert) {
        (TlsMode::Disable, _) => None,
        (TlsMode::Prefer, _) | (TlsMode::Require, None) => verified_by(None, false),
        (TlsMode::Require, Some(_)) | (TlsMode::VerifyCa, _) => verified_by(chain()?, false),
        (TlsMode::VerifyFull, _) => verified_by(chain()?, true),
    })
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

/// The chain to a trusted certificate.
#[derive(Debug)]
struct Chain {
    verifier: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl Chain {
    /// The chain to a certificate of the file, or of the system's.
    fn new(root_cert: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let trusted = match root_cert {
            Some(path) => read(path, &mut roots).map_err(|error| {
                Error::configuration(format!("sslrootcert {}: {error}", path.display()))
            })?,
            None => {
                let certificates = rustls_native_certs::load_native_certs().certs;
                roots.add_parsable_certificates(certificates.iter().cloned());
                certificates
            }
        };
        if roots.is_empty() {
            return Err(Error::configuration(
                "there is no certificate to trust; name a file of them with sslrootcert".to_owned(),
            ));
        }
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .map_err(unusable)?;
        Ok(Self { verifier, trusted })
    }
}

/// The certificates in `path`, of which there is at least one.
fn read(
    path: &Path,
    roots: &mut RootCertStore,
) -> Result<Vec<CertificateDer<'static>>, Box<dyn StdError>> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
    for certificate in &certificates {
        roots.add(certificate.clone())?;
    }
    if certificates.is_empty() {
        return Err("the file holds no certificate".into());
    }
    Ok(certificates)
}

/// Verifies a server as the `sslmode` demands: nothing without a `chain`, the chain, or the host's
/// name too.
#[derive(Debug)]
struct Verifier {
    chain: Option<Chain>,
    verifies_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(Chain { verifier, trusted }) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified =
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is verified last: an error about it says that the chain holds.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.verifies_name => Ok(ServerCertVerified::assertion()),
            // A server's self-signed certificate is commonly marked as an authority's, which webpki
            // refuses of a server, after it checked the dates. It is trusted if it is in the file.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if trusted.contains(end_entity) =>
            {
                if self.verifies_name {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
