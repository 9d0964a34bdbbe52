//! The certificate by which a client authenticates.

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use crate::database::tls::pem_file::PemFile;
use crate::error::{Cause, Error, Result};

/// The files of a client's certificate and its key.
#[derive(Debug, Clone, Copy)]
pub(in crate::database) struct ClientFiles<'a> {
    pub(in crate::database) certificate: PemFile<'a>,
    pub(in crate::database) key: PemFile<'a>,
}

impl ClientFiles<'_> {
    /// Reads both, and requires that they belong together.
    pub(super) fn read(self, provider: &CryptoProvider) -> Result<CertifiedKey> {
        let certificates = self.certificate.certificates()?;
        let key = read_key(self.key, provider)?;
        let public =
            public_key(&certificates[0]).map_err(|error| self.certificate.failed(error))?;
        // The comparison that rustls makes, but for X.509 version 1 too.
        if key.public_key().is_some_and(|key| *key != *public) {
            return Err(self.certificate.unusable("it isn't the certificate of sslkey"));
        }
        Ok(CertifiedKey::new(certificates, key))
    }
}

fn read_key(file: PemFile<'_>, provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>> {
    require_private(file)?;
    let pem = fs::read(file.path).map_err(|error| file.failed(error))?;
    if pem.windows(9).any(|text| text == b"ENCRYPTED") {
        let reason = "the key is encrypted: write it without a password by `openssl pkey`";
        return Err(file.unusable(reason));
    }
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| file.failed(error))?;
    provider.key_provider.load_private_key(key).map_err(|error| {
        let advice = "make an RSA key of 2048 to 4096 bits, or one on P-256, P-384 or Ed25519";
        let message = format!("{} {}: {error}; {advice}", file.parameter, file.path.display());
        Error::configuration(Cause::new(message, error))
    })
}

/// Refuses a key that others may read, as libpq does.
#[cfg(unix)]
fn require_private(file: PemFile<'_>) -> Result<()> {
    use std::os::unix::fs::MetadataExt;

    let metadata = fs::metadata(file.path).map_err(|error| file.failed(error))?;
    if !metadata.is_file() {
        return Err(file.unusable("the key must be a regular file"));
    }
    // Of root's files, the group may read.
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(file.unusable(
            "others may read the key: give it the permissions 0600, or 0640 if root owns it",
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn require_private(_file: PemFile<'_>) -> Result<()> {
    Ok(())
}

/// The public key of a certificate, with its algorithm.
fn public_key(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, x509_cert::der::Error> {
    let certificate = Certificate::from_der(certificate)?;
    certificate.tbs_certificate().subject_public_key_info().to_der()
}

/// Notes whether the server asked for the certificate.
#[derive(Debug)]
pub(super) struct Asked {
    certificate: Arc<dyn ResolvesClientCert>,
    is_asked: AtomicBool,
}

impl Asked {
    pub(super) fn new(certificate: Arc<dyn ResolvesClientCert>) -> Self {
        Self { certificate, is_asked: AtomicBool::new(false) }
    }

    pub(super) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Asked {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.is_asked.store(true, Ordering::Relaxed);
        self.certificate.resolve(root_hint_subjects, schemes)
    }

    fn has_certs(&self) -> bool {
        self.certificate.has_certs()
    }
}
