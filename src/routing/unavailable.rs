//! Why a request can't be served.

use std::sync::Arc;

use crate::error::Error;
use crate::values::{ExperimentId, InvalidValue, VariantId, VersionId};

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
    /// The current version of one of the experiment's variants can't be read, or is too long to be
    /// loaded.
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
    /// The routing cache couldn't load the experiment in time, or the database can't read it. The
    /// cache tries again when the experiment changes, and every 30 seconds one of those that it
    /// couldn't load.
    #[error("experiment {experiment} can't be loaded: {reason}")]
    NotLoaded {
        /// The experiment.
        experiment: ExperimentId,
        /// What failed.
        reason: Arc<Error>,
    },
    /// The experiment was active or paused, and the database has it no longer, or as a draft. No
    /// operation does that, so an older database may have been restored. Served again when the row
    /// is there again; a gateway that starts anew knows nothing of it.
    #[error(
        "experiment {0} was routed, and has vanished from the database; restore it, or restart \
         the gateway if it is to be forgotten"
    )]
    Vanished(ExperimentId),
    /// The routing cache is older than `max_staleness`.
    #[error(
        "the routing cache is older than max_staleness; see whether the database can be reached"
    )]
    Stale,
}
