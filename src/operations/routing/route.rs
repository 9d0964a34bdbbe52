//! What routing answers.

use std::fmt;
use std::sync::Arc;

use super::experiment::{Arms, Checkpoint};
use crate::values::{
    AllocationSubject, EncryptedApiKey, ExperimentId, InvalidValue, Upstream, VariantId, VersionId,
};

/// What to do with a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Route {
    /// Serve it by this version.
    Serve(Served),
    /// No experiment is active or paused on the public model id: serve it as without experiments.
    NotExperimented,
    /// The experiment is paused: answer "not found", and never serve it otherwise.
    Paused,
    /// It can't be served now: answer "unavailable", and never serve it otherwise.
    Unavailable(Unavailable),
}

/// The version that serves a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// The experiment.
    pub experiment: ExperimentId,
    /// The variant that the subject is bucketed into.
    pub variant: VariantId,
    /// The variant's current version.
    pub version: VersionId,
    /// What the request was bucketed by.
    pub subject: AllocationSubject,
    pub(super) by: ServedBy,
}

/// An arm of an experiment. All live on together for as long as one of them serves a request.
#[derive(Clone)]
pub(super) struct ServedBy {
    pub(super) arms: Arc<Arms>,
    pub(super) at: usize,
}

impl Served {
    /// Where and how to call the checkpoint.
    pub fn upstream(&self) -> &Upstream {
        &self.by.checkpoint().upstream
    }

    /// The encrypted key to call it with.
    pub fn key(&self) -> &EncryptedApiKey {
        &self.by.checkpoint().key
    }
}

impl ServedBy {
    fn checkpoint(&self) -> &Checkpoint {
        &self.arms.arms[self.at].checkpoint
    }
}

impl PartialEq for ServedBy {
    fn eq(&self, other: &Self) -> bool {
        self.checkpoint() == other.checkpoint()
    }
}

impl fmt::Debug for ServedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.checkpoint().fmt(f)
    }
}

/// Why a request can't be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// Neither a user, nor a machine, nor an address is known to bucket by.
    #[error("the request has no user id, machine id or client address to bucket by")]
    NoSubject,
    /// The experiment has no variant.
    #[error("the experiment has no variant")]
    NoVariant,
    /// A variant of the experiment has no version that is effective yet.
    #[error("variant {0} has no version that is effective yet")]
    NoCurrentVersion(VariantId),
    /// The current version of one of the experiment's variants can't be read.
    #[error("version {version} can't be read: {reason}")]
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
    /// A routing cache hasn't heard of the database for longer than it may serve what it holds.
    #[error("the routing cache is older than it may be; see whether the database can be reached")]
    Stale,
}
