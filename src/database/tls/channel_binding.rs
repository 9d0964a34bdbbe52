//! The binding of an authentication to the server's certificate: `tls-server-end-point` of
//! RFC 5929.

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::asn1::ContextSpecific;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5912;
use x509_cert::der::{Decode, SliceReader, TagNumber};
use x509_cert::spki::AlgorithmIdentifierOwned;

/// The hash of `certificate` with the hash function of its signature, or SHA-256 in place of MD5
/// and SHA-1. `None` where the signature has none, as that of Ed25519.
pub(super) fn binding(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = parsed.signature_algorithm();
    let hash = match algorithm.oid {
        rfc5912::ID_RSASSA_PSS => hash_of_rsa_pss(algorithm)?,
        algorithm => algorithm,
    };
    Some(match hash {
        rfc5912::MD_5_WITH_RSA_ENCRYPTION
        | rfc5912::ID_SHA_1
        | rfc5912::SHA_1_WITH_RSA_ENCRYPTION
        | rfc5912::ID_SHA_256
        | rfc5912::SHA_256_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_256 => Sha256::digest(certificate).to_vec(),
        rfc5912::ID_SHA_224
        | rfc5912::SHA_224_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_224 => Sha224::digest(certificate).to_vec(),
        rfc5912::ID_SHA_384
        | rfc5912::SHA_384_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_384 => Sha384::digest(certificate).to_vec(),
        rfc5912::ID_SHA_512
        | rfc5912::SHA_512_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_512 => Sha512::digest(certificate).to_vec(),
        _ => return None,
    })
}

/// The hash function in the parameters of RSA-PSS, which is SHA-1 by default.
fn hash_of_rsa_pss(algorithm: &AlgorithmIdentifierOwned) -> Option<ObjectIdentifier> {
    let mut reader = SliceReader::new(algorithm.parameters.as_ref()?.value()).ok()?;
    let hash = ContextSpecific::<AlgorithmIdentifierOwned>::decode(&mut reader).ok();
    let hash = hash.filter(|field| field.tag_number == TagNumber(0));
    Some(hash.map_or(rfc5912::ID_SHA_1, |field| field.value.oid))
}
