//! Which TLS a URL asks for.

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use std::path::Path;

use crate::database::tls::client_certificate::ClientFiles;
use crate::database::tls::pem_file::PemFile;
use crate::database::tls::{TlsMode, TlsOptions};
use crate::database::url::values::Values;
use crate::error::{Error, Result};

/// How to encrypt a connection over TCP.
pub(super) fn options(values: &Values, is_local: bool) -> Result<TlsOptions<'_>> {
    let (mode, root_cert) = mode(values)?;
    let certificate_mode = values.choice(
        "sslcertmode",
        &[
            ("disable", CertificateMode::Disable),
            ("allow", CertificateMode::Allow),
            ("require", CertificateMode::Require),
        ],
    )?;
    let client = match certificate_mode {
        Some(CertificateMode::Disable) => None,
        _ => client(values)?,
    };
    let must_ask = certificate_mode == Some(CertificateMode::Require);
    if must_ask && client.is_none() {
        return Err(Error::configuration("sslcertmode=require needs sslcert and sslkey"));
    }
    let is_direct = values.choice("sslnegotiation", &[("postgres", false), ("direct", true)])?;
    let is_direct = is_direct.unwrap_or(false);
    if is_direct && matches!(mode, TlsMode::Disable | TlsMode::Prefer) {
        return Err(Error::configuration(
            "sslnegotiation=direct needs sslmode=require, verify-ca or verify-full",
        ));
    }
    Ok(TlsOptions {
        mode: if is_local { TlsMode::Disable } else { mode },
        root_cert,
        client,
        must_ask,
        tells_name: values.choice("sslsni", &[("0", false), ("1", true)])?.unwrap_or(true),
        versions: versions(values)?,
        is_direct: is_direct && !is_local,
    })
}

fn mode(values: &Values) -> Result<(TlsMode, Option<PemFile<'_>>)> {
    let mode = values.choice(
        "sslmode",
        &[
            ("disable", TlsMode::Disable),
            ("prefer", TlsMode::Prefer),
            ("require", TlsMode::Require),
            ("verify-ca", TlsMode::VerifyCa),
            ("verify-full", TlsMode::VerifyFull),
        ],
    )?;
    let spelled = match values.text("requiressl") {
        None => values.choice("ssl", &[("true", TlsMode::Require)])?,
        Some(text) if text.starts_with('1') => Some(TlsMode::Require),
        Some(_) => Some(TlsMode::Prefer),
    };
    let mode = mode.or(spelled);
    match (mode, values.text("sslrootcert")) {
        (None | Some(TlsMode::VerifyFull), Some("system")) => Ok((TlsMode::VerifyFull, None)),
        (Some(_), Some("system")) => {
            Err(Error::configuration("sslrootcert=system needs sslmode=verify-full"))
        }
        // Any site's certificate would do.
        (Some(TlsMode::VerifyCa), None) => Err(Error::configuration(
            "sslmode=verify-ca needs sslrootcert; with the system's certificates use verify-full",
        )),
        (mode, path) => {
            Ok((mode.unwrap_or(TlsMode::Prefer), path.map(|path| file("sslrootcert", path))))
        }
    }
}

fn file<'a>(parameter: &'static str, path: &'a str) -> PemFile<'a> {
    PemFile { parameter, path: Path::new(path) }
}

/// When the client's certificate is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CertificateMode {
    Disable,
    Allow,
    Require,
}

fn client(values: &Values) -> Result<Option<ClientFiles<'_>>> {
    match (values.text("sslcert"), values.text("sslkey")) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(ClientFiles {
            certificate: file("sslcert", certificate),
            key: file("sslkey", key),
        })),
        (Some(_), None) => Err(Error::configuration("sslcert needs sslkey, the file of its key")),
        (None, Some(_)) => Err(Error::configuration("sslkey needs sslcert, its certificate")),
    }
}

/// The versions between the oldest and the newest, of those that rustls has.
fn versions(values: &Values) -> Result<Vec<&'static SupportedProtocolVersion>> {
    const NAMES: [(&str, u8); 4] = [("TLSv1", 0), ("TLSv1.1", 1), ("TLSv1.2", 2), ("TLSv1.3", 3)];
    let oldest = values.choice("ssl_min_protocol_version", &NAMES)?.unwrap_or(0);
    let newest = values.choice("ssl_max_protocol_version", &NAMES)?.unwrap_or(3);
    let versions: Vec<_> = [(2, &TLS12), (3, &TLS13)]
        .into_iter()
        .filter(|(version, _)| (oldest..=newest).contains(version))
        .map(|(_, version)| version)
        .collect();
    if versions.is_empty() {
        return Err(Error::configuration(
            "ssl_min_protocol_version and ssl_max_protocol_version leave neither TLSv1.2 nor \
             TLSv1.3",
        ));
    }
    Ok(versions)
}
