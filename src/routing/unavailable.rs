//! Why a request can't be served.

use std::sync::Arc;

use crate::values::{InvalidValue, VariantId, VersionId};

/// Why a request can't be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// No user, machine or address is known to bucket by.
    #[error("the request has no user id, machine id or client address to bucket by; pass one")]
    NoSubject,
    /// The experiment has no variant.
    #[error("the experiment has no variant")]
    NoVariant,
    /// A variant of the experiment has no version that is effective yet.
    #[error("variant {0} has no version that is effective yet; publish one")]
    NoCurrentVersion(VariantId),
    /// The current version of one of the experiment's variants can't be read.
    #[error("version {version} can't be read: {reason}; publish another")]
    Unreadable {
        /// The version.
        version: VersionId,
        /// The rule that it breaks.
        reason: Arc<InvalidValue>,
    },
    /// One of the experiment's variants can't be read.
    #[error("variant {variant} can't be read: {reason}")]
    UnreadableVariant {
        /// The variant.
        variant: VariantId,
        /// The rule that it breaks.
        reason: Arc<InvalidValue>,
    },
    /// The routing cache is older than `max_staleness`.
    #[error(
        "the routing cache is older than max_staleness; see whether the database can be reached"
    )]
    Stale,
}
