//! What routing depends on, but for the content of versions.

use chrono::{DateTime, Utc};

use super::rows::{HeadRow, Identity, Slot};
use crate::values::{ExperimentId, Status, VariantId, Weight};

/// What routing an experiment depends on, but for the content of its versions: where two outlines are equal, so is all
/// that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outline {
    experiment: ExperimentId,
    status: Status,
    variants: Box<[VariantOutline]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct VariantOutline {
    variant: VariantId,
    weight: Option<Weight>,
    current: Option<Identity>,
    next: Option<DateTime<Utc>>,
}

impl Outline {
    pub(super) fn new<V>(
        head: &HeadRow,
        slots: &[Slot<V>],
        identity: impl Fn(&V) -> Identity,
    ) -> Self {
        let variants = slots.iter().map(|slot| VariantOutline {
            variant: slot.id,
            weight: slot.weight.as_ref().ok().copied(),
            current: slot.current.as_ref().map(&identity),
            next: slot.next,
        });
        Self { experiment: head.id, status: head.status, variants: variants.collect() }
    }

    /// When the first of the scheduled versions takes over, by the database's clock.
    pub(crate) fn next_change(&self) -> Option<DateTime<Utc>> {
        self.variants.iter().filter_map(|variant| variant.next).min()
    }
}
