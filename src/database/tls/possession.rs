//! The proof that a server holds the key of its certificate, for certificates of every kind.
//!
//! rustls reads a certificate as a verifier of chains does: it refuses X.509 version 1, which plain
//! `openssl x509 -req` makes, and `ring` has no P-521. Where no chain is verified, only the public
//! key of the certificate matters.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::oid::db::rfc5912::ID_RSASSA_PSS;
use x509_cert::der::{Any, Decode, Encode};

type Algorithm = &'static dyn SignatureVerificationAlgorithm;

/// `rsa_pss_pss_sha256`, `…384` and `…512`: signatures of keys that are for RSA-PSS alone. TLS 1.2
/// has them too, but rustls doesn't.
const RSA_PSS_KEY_SCHEMES: [(SignatureScheme, SignatureScheme); 3] = [
    (SignatureScheme::Unknown(0x0809), SignatureScheme::RSA_PSS_SHA256),
    (SignatureScheme::Unknown(0x080a), SignatureScheme::RSA_PSS_SHA384),
    (SignatureScheme::Unknown(0x080b), SignatureScheme::RSA_PSS_SHA512),
];

/// The version of TLS that a signature is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Tls12,
    Tls13,
}

/// The kinds of signature that are verified.
pub(super) fn schemes(algorithms: &WebPkiSupportedAlgorithms) -> Vec<SignatureScheme> {
    let mut schemes = algorithms.supported_schemes();
    schemes.push(SignatureScheme::ECDSA_NISTP521_SHA512);
    schemes.extend(RSA_PSS_KEY_SCHEMES.map(|(scheme, _)| scheme));
    schemes
}

/// Verifies a handshake's signature with the public key of `certificate`.
pub(super) fn verify(
    version: Version,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let certificate = Certificate::from_der(certificate).map_err(|_| unreadable())?;
    let key = certificate.tbs_certificate().subject_public_key_info();
    let bits = key.subject_public_key.as_bytes().ok_or_else(unreadable)?;
    let mut candidates = if key.algorithm.oid == ID_RSASSA_PSS {
        of_rsa_pss_key(signed.scheme, algorithms)
    } else {
        // The encoding without the tag and length of its sequence.
        let algorithm = key.algorithm.to_der().and_then(|der| Any::from_der(&der));
        let algorithm = algorithm.map_err(|_| unreadable())?;
        let mut candidates = of(signed.scheme, algorithms);
        // In TLS 1.3 the scheme names the curve.
        candidates.truncate(if version == Version::Tls13 { 1 } else { usize::MAX });
        candidates.retain(|candidate| *candidate.public_key_alg_id() == *algorithm.value());
        candidates
    };
    let algorithm =
        candidates.pop().ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    algorithm
        .verify_signature(bits, message, signed.signature())
        .map(|()| HandshakeSignatureValid::assertion())
        .map_err(|InvalidSignature| CertificateError::BadSignature.into())
}

/// What may verify signatures of `scheme`, the one that TLS 1.3 means first.
fn of(scheme: SignatureScheme, algorithms: &WebPkiSupportedAlgorithms) -> Vec<Algorithm> {
    let known = algorithms.mapping.iter().filter(|(name, _)| *name == scheme);
    let mut candidates: Vec<_> = known.flat_map(|(_, algorithms)| *algorithms).copied().collect();
    if scheme == SignatureScheme::ECDSA_NISTP521_SHA512 {
        candidates.push(&P521);
    }
    candidates
}

fn of_rsa_pss_key(
    scheme: SignatureScheme,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Vec<Algorithm> {
    let plain = RSA_PSS_KEY_SCHEMES.iter().find(|(of_key, _)| *of_key == scheme);
    plain.map(|(_, plain)| of(*plain, algorithms)).unwrap_or_default()
}

fn unreadable() -> Error {
    CertificateError::BadEncoding.into()
}

/// ECDSA on the curve P-521 with SHA-512.
#[derive(Debug)]
struct P521;

impl SignatureVerificationAlgorithm for P521 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        use p521::ecdsa::signature::Verifier;
        use p521::ecdsa::{Signature, VerifyingKey};

        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = Signature::from_der(signature).map_err(|_| InvalidSignature)?;
        key.verify(message, &signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA512
    }
}
