//! Which TLS a URL asks for.

use std::path::Path;

use crate::database::tls::TlsMode;
use crate::database::url::values::Values;
use crate::error::{Error, Result};

/// The mode, and the file of certificates to trust in place of the system's.
pub(super) fn mode(values: &Values) -> Result<(TlsMode, Option<&Path>)> {
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
    let mode = match mode {
        None => values.choice("ssl", &[("true", TlsMode::Require)])?,
        mode => mode,
    };
    match (mode, values.text("sslrootcert")) {
        (None | Some(TlsMode::VerifyFull), Some("system")) => Ok((TlsMode::VerifyFull, None)),
        (Some(_), Some("system")) => {
            Err(Error::configuration("sslrootcert=system needs sslmode=verify-full"))
        }
        (mode, path) => Ok((mode.unwrap_or(TlsMode::Prefer), path.map(Path::new))),
    }
}
