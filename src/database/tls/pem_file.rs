//! Files that a URL names.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::error::Error as StdError;
use std::path::Path;

use crate::error::{Cause, Error, Result};

/// A file in PEM.
#[derive(Debug, Clone, Copy)]
pub(in crate::database) struct PemFile<'a> {
    /// The parameter that names it.
    pub(in crate::database) parameter: &'static str,
    pub(in crate::database) path: &'a Path,
}

impl PemFile<'_> {
    /// The certificates in the file, of which there is at least one.
    pub(super) fn certificates(self) -> Result<Vec<CertificateDer<'static>>> {
        let certificates: Vec<_> = CertificateDer::pem_file_iter(self.path)
            .and_then(Iterator::collect::<Result<_, _>>)
            .map_err(|error| self.failed(error))?;
        if certificates.is_empty() {
            return Err(self.unusable("the file holds no certificate"));
        }
        Ok(certificates)
    }

    /// The error of a file that can't be read.
    pub(super) fn failed(self, error: impl StdError + Send + Sync + 'static) -> Error {
        let message = format!("{} {}: {error}", self.parameter, self.path.display());
        Error::configuration(Cause::new(message, error))
    }

    /// The error of a file that can't be used for `reason`.
    pub(super) fn unusable(self, reason: &str) -> Error {
        let Self { parameter, path } = self;
        Error::configuration(format!("{parameter} {}: {reason}", path.display()))
    }
}
