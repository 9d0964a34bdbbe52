//! Which certificates of a server are accepted.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;

use crate::database::tls::pem_file::PemFile;
use crate::database::tls::possession::{self, Version};
use crate::error::{Cause, Error, Result};

/// Accepts any certificate whose key the server holds.
#[derive(Debug)]
pub(super) struct AnyCertificate {
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        possession::verify(Version::Tls12, message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        possession::verify(Version::Tls13, message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        possession::schemes(&self.provider.signature_verification_algorithms)
    }
}

/// The chain to a trusted certificate.
#[derive(Debug)]
pub(super) struct Chain {
    verifier: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl Chain {
    /// The chain to a certificate of the file, or of the system's.
    pub(super) fn new(
        root_cert: Option<PemFile<'_>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let trusted = match root_cert {
            Some(file) => {
                let certificates = file.certificates()?;
                for certificate in &certificates {
                    roots.add(certificate.clone()).map_err(|error| file.failed(error))?;
                }
                certificates
            }
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
                .map_err(|error| Error::configuration(Cause::of(error)))?;
        Ok(Self { verifier, trusted })
    }
}

/// Accepts a certificate of a trusted authority, and only for the host where it `verifies_name`.
#[derive(Debug)]
pub(super) struct TrustedCertificate {
    pub(super) chain: Chain,
    pub(super) verifies_name: bool,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for TrustedCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Chain { verifier, trusted } = &self.chain;
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
