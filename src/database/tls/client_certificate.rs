//! The certificate by which a client authenticates.

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{CertificateError, SignatureScheme};
use std::error::Error as StdError;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use crate::error::{Error, Result};

/// The files of a client's certificate and its key, in PEM.
#[derive(Debug, Clone, Copy)]
pub(in crate::database) struct ClientFiles<'a> {
    pub(in crate::database) certificate: &'a Path,
    pub(in crate::database) key: &'a Path,
}

impl ClientFiles<'_> {
    /// Reads both, and requires that they belong together.
    pub(super) fn read(self, provider: &CryptoProvider) -> Result<CertifiedKey> {
        let failed = |name: &str, path: &Path, error: Box<dyn StdError>| {
            Error::configuration(format!("{name} {}: {error}", path.display()))
        };
        let certificates = certificates(self.certificate)
            .map_err(|error| failed("sslcert", self.certificate, error))?;
        let key = key(self.key, provider).map_err(|error| failed("sslkey", self.key, error))?;
        require_same_key(&certificates[0], &*key)
            .map_err(|error| failed("sslcert", self.certificate, error))?;
        Ok(CertifiedKey::new(certificates, key))
    }
}

/// The certificates in the file, of which there is at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Box<dyn StdError>> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        return Err("the file holds no certificate".into());
    }
    Ok(certificates)
}

fn key(path: &Path, provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, Box<dyn StdError>> {
    require_private(path)?;
    let pem = fs::read(path)?;
    if pem.windows(9).any(|text| text == b"ENCRYPTED") {
        return Err("the key is encrypted: write it without a password by `openssl pkey`".into());
    }
    let key = PrivateKeyDer::from_pem_slice(&pem)?;
    provider.key_provider.load_private_key(key).map_err(|_| {
        "the key can't be used: make an RSA key of 2048 to 4096 bits, or one on P-256, P-384 or \
         Ed25519"
            .into()
    })
}

/// Refuses a key that others may read, as libpq does.
#[cfg(unix)]
fn require_private(path: &Path) -> Result<(), Box<dyn StdError>> {
    use std::os::unix::fs::MetadataExt;

    let file = fs::metadata(path)?;
    // Of root's files, the group may read.
    let forbidden = if file.uid() == 0 { 0o037 } else { 0o077 };
    if !file.is_file() {
        return Err("the key must be a regular file".into());
    }
    if file.mode() & forbidden != 0 {
        return Err(
            "others may read the key: give it the permissions 0600, or 0640 if root owns it".into(),
        );
    }
    Ok(())
}

#[cfg(not(unix))]
fn require_private(_path: &Path) -> Result<(), Box<dyn StdError>> {
    Ok(())
}

/// The comparison that rustls makes, but for X.509 version 1 too.
fn require_same_key(
    certificate: &CertificateDer<'_>,
    key: &dyn SigningKey,
) -> Result<(), Box<dyn StdError>> {
    let certificate = Certificate::from_der(certificate)
        .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let certified = certificate.tbs_certificate().subject_public_key_info().to_der();
    let certified = certified.map_err(|_| "its key can't be read")?;
    match key.public_key() {
        Some(public) if *public != *certified => Err("it isn't the certificate of sslkey".into()),
        _ => Ok(()),
    }
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
