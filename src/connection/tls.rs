//! TLS as libpq's `sslmode` has it, by rustls.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::error::Error as StdError;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result};

/// How much of TLS a connection insists on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsMode {
    /// No encryption.
    Disable,
    /// Encryption if the server offers it, with whatever certificate.
    Prefer,
    /// Encryption, with whatever certificate.
    Require,
    /// Encryption, with a certificate of a trusted authority.
    VerifyCa,
    /// Encryption, with a certificate of a trusted authority for the very host.
    VerifyFull,
}

impl FromStr for TlsMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(Error::Configuration(
                "sslmode must be one of disable, prefer, require, verify-ca, verify-full"
                    .to_owned(),
            )),
        }
    }
}

/// The TLS that `mode` asks for, with the certificates of `root_cert`, or the system's, as trusted.
pub(super) fn client_config(
    mode: TlsMode,
    root_cert: Option<&Path>,
) -> Result<Option<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    let verify = |chain| {
        builder
            .clone()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Lenient {
                chain,
                provider: Arc::clone(&provider),
            }))
            .with_no_client_auth()
    };
    let chain = || {
        WebPkiServerVerifier::builder_with_provider(
            Arc::new(trusted(root_cert)?),
            Arc::clone(&provider),
        )
        .build()
        .map_err(|error| unusable(&error))
    };
    Ok(match (mode, root_cert) {
        (TlsMode::Disable, _) => None,
        (TlsMode::Prefer, _) | (TlsMode::Require, None) => Some(verify(None)),
        (TlsMode::Require, Some(_)) | (TlsMode::VerifyCa, _) => Some(verify(Some(chain()?))),
        (TlsMode::VerifyFull, _) => {
            Some(builder.clone().with_webpki_verifier(chain()?).with_no_client_auth())
        }
    })
}

/// Whether `error` is a refusal, ours or the driver's, and not trouble on the way: a certificate that
/// isn't trusted, a server without TLS, a missing password.
pub(super) fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|source| match source.downcast_ref::<std::io::Error>() {
        Some(error) => error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()),
        None => true,
    })
}

fn trusted(root_cert: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match root_cert {
        Some(path) => {
            let of_file = |error: &dyn std::fmt::Display| {
                Error::Configuration(format!("sslrootcert {}: {error}", path.display()))
            };
            for certificate in
                CertificateDer::pem_file_iter(path).map_err(|error| of_file(&error))?
            {
                let certificate = certificate.map_err(|error| of_file(&error))?;
                roots.add(certificate).map_err(|error| of_file(&error))?;
            }
            if roots.is_empty() {
                return Err(of_file(&"the file holds no certificate"));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Error::Configuration(
                    "the system trusts no certificate; name a file with sslrootcert".to_owned(),
                ));
            }
        }
    }
    Ok(roots)
}

fn unusable(error: &dyn std::fmt::Display) -> Error {
    Error::Configuration(format!("TLS can't be set up: {error}"))
}

/// Verifies less than rustls does of itself: never the host's name, and the chain only if there is a
/// `chain` to verify it by.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        // The name is verified last: an error about it says that the chain holds.
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
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
