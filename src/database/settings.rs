//! Settings of a session.

use postgres_protocol::escape::escape_literal;
use std::time::Duration;

use crate::error::Error;

/// A setting of the server, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) value: String,
}

impl Setting {
    /// The longest statement.
    pub(super) fn statement_timeout(timeout: Duration) -> Self {
        Self { name: "statement_timeout".to_owned(), value: milliseconds(timeout).to_string() }
    }

    /// The error of a setting that a pooler doesn't keep.
    pub(super) fn not_kept(&self) -> Error {
        let name = &self.name;
        Error::configuration(format!(
            "the pooler shares a session between transactions, so {name} can't be set for it: \
             remove it from the URL's options, and set it by ALTER ROLE ... SET {name}"
        ))
    }
}

/// Sets settings until the session ends. A later one counts.
///
/// Poolers refuse them as a startup parameter, or drop them.
pub(super) fn sql<'s>(settings: impl IntoIterator<Item = &'s Setting>) -> String {
    let set = |Setting { name, value }: &Setting| {
        format!("SELECT set_config({}, {}, false)", escape_literal(name), escape_literal(value))
    };
    settings.into_iter().map(set).collect::<Vec<_>>().join("; ")
}

/// A duration in the server's milliseconds, rounded up, since zero is no limit.
pub(crate) fn milliseconds(duration: Duration) -> u128 {
    duration.as_nanos().div_ceil(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_never_rounded_down_to_none() {
        for (timeout, value) in [
            (Duration::ZERO, "0"),
            (Duration::from_micros(900), "1"),
            (Duration::from_millis(2), "2"),
        ] {
            assert_eq!(Setting::statement_timeout(timeout).value, value);
        }
    }
}
