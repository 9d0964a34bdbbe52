//! Fingerprints, by which a poll finds the experiments whose routing changed.

use crate::routing::rows::{Experiment, VersionIdentity};
use crate::values::{ExperimentId, Status, Timestamp, VariantId, Weight};

/// Everything that routing an experiment depends on, except the content of its versions. Two equal
/// fingerprints serve the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    experiment: ExperimentId,
    status: Status,
    variants: Box<[VariantFingerprint]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct VariantFingerprint {
    variant: VariantId,
    weight: Option<Weight>,
    current: Option<VersionIdentity>,
    next_effective_at: Option<Timestamp>,
}

impl Fingerprint {
    pub(super) fn new<V>(
        experiment: &Experiment<V>,
        identity: impl Fn(&V) -> VersionIdentity,
    ) -> Self {
        let variants = experiment.variants.iter().map(|variant| VariantFingerprint {
            variant: variant.id,
            weight: variant.weight.as_ref().ok().copied(),
            current: variant.current.as_ref().map(&identity),
            next_effective_at: variant.next_effective_at,
        });
        Self {
            experiment: experiment.row.id,
            status: experiment.row.status,
            variants: variants.collect(),
        }
    }

    /// The experiment.
    pub(super) fn experiment(&self) -> ExperimentId {
        self.experiment
    }

    /// The instant, by the database's clock, at which the first of the scheduled versions becomes
    /// effective.
    pub(crate) fn next_change(&self) -> Option<Timestamp> {
        self.variants.iter().filter_map(|variant| variant.next_effective_at).min()
    }
}
