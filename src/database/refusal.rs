//! Errors of making a connection.

use crate::database::tls;
use crate::error::{Cause, Error, Transient, of_refusal};
use crate::values::InvalidValue;

/// The error of a connection that the server refused, or that failed on the way.
pub(super) fn refused(error: tokio_postgres::Error) -> Error {
    let Some(refusal) = error.as_db_error() else {
        // A retry helps neither an untrusted certificate nor a missing password.
        let is_refusal = tls::is_refusal(&error);
        let cause = failed("connecting failed", error);
        return if is_refusal {
            Error::configuration(cause)
        } else {
            Error::transient(Transient::ConnectionLost, cause)
        };
    };
    let (message, code) = (refusal.message().to_owned(), refusal.code().code().to_owned());
    of_refusal(&message, &code, error)
}

fn failed(what: &str, error: tokio_postgres::Error) -> Cause {
    Cause::new(format!("{what}: {}", Cause::with_sources(&error)), error)
}

/// The error of an option that no server takes.
pub(super) fn unusable(invalid: InvalidValue) -> Error {
    Error::configuration(Cause::of(invalid))
}
