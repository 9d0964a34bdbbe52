//! The variants of an active experiment, ready to serve.

use std::sync::Arc;

use crate::routing::bucketing::{CumulativeWeights, Subject};
use crate::routing::rows::{Variant, VersionRow};
use crate::routing::unavailable::Unavailable;
use crate::values::{EncryptedApiKey, ExperimentId, Upstream, VariantId, VersionId};

/// The variants of an active experiment, in ascending order of their ids.
#[derive(Debug)]
pub(super) struct ServingVariants {
    weights: CumulativeWeights,
    variants: Box<[ServingVariant]>,
}

/// A variant with its current version.
#[derive(Debug)]
pub(super) struct ServingVariant {
    pub(super) id: VariantId,
    pub(super) version: VersionId,
    pub(super) checkpoint: Box<Checkpoint>,
}

/// What a version calls.
#[derive(Debug, PartialEq)]
pub(super) struct Checkpoint {
    pub(super) upstream: Upstream,
    pub(super) key: EncryptedApiKey,
}

impl ServingVariants {
    /// The variants as they were read, if each of them can be served.
    pub(super) fn new(read: Vec<Variant<VersionRow>>) -> Result<Self, Unavailable> {
        let mut weights = Vec::with_capacity(read.len());
        let mut variants = Vec::with_capacity(read.len());
        for Variant { id, weight, current, .. } in read {
            weights.push(weight.map_err(|reason| Unavailable::UnreadableVariant {
                variant: id,
                reason: Arc::new(reason),
            })?);
            let current = current.ok_or(Unavailable::NoCurrentVersion(id))?;
            let version = current.identity.id;
            let unreadable = |reason| Unavailable::Unreadable { version, reason: Arc::new(reason) };
            let upstream = current.upstream.0.map_err(unreadable)?;
            let key = current.encrypted_api_key.0.map_err(unreadable)?;
            let checkpoint = Box::new(Checkpoint { upstream, key });
            variants.push(ServingVariant { id, version, checkpoint });
        }
        Ok(Self { weights: CumulativeWeights::new(weights), variants: variants.into() })
    }

    /// The position of the variant that `subject` is bucketed into.
    pub(super) fn pick(&self, experiment: ExperimentId, subject: Subject<'_>) -> Option<usize> {
        self.weights.pick(experiment, subject)
    }

    /// The variant at a position that was picked.
    pub(super) fn at(&self, position: usize) -> &ServingVariant {
        &self.variants[position]
    }
}
