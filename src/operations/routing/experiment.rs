//! An experiment as routing sees it.

use std::sync::Arc;

use super::outline::Outline;
use super::route::{Checkpoint, Route, Served, Unavailable};
use super::rows::{HeadRow, Slot, VersionRow};
use crate::bucketing::{self, Subject};
use crate::values::{ExperimentId, Status, VariantId, VersionId, Weight};

/// An experiment that is active or paused, with what its variants serve now.
///
/// It is served as a whole or not at all: where one variant has nothing that can be served, nobody is, as the
/// shares of the others would no longer be those of the experiment.
#[derive(Debug, Clone)]
pub struct RoutedExperiment {
    id: ExperimentId,
    outline: Outline,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Paused,
    /// Active, with its variants in ascending order of their ids.
    Active(Box<[Arm]>),
    /// Active, and one of its variants has nothing that can be served.
    Broken(Unavailable),
}

/// A variant with its current version.
#[derive(Debug, Clone)]
struct Arm {
    variant: VariantId,
    weight: Weight,
    version: VersionId,
    checkpoint: Arc<Checkpoint>,
}

impl RoutedExperiment {
    /// The experiment's id.
    pub fn id(&self) -> ExperimentId {
        self.id
    }

    /// What to do with a request of `subject`.
    pub fn route(&self, subject: Option<Subject<'_>>) -> Route {
        let arms = match &self.state {
            State::Paused => return Route::Paused,
            State::Broken(reason) => return Route::Unavailable(reason.clone()),
            State::Active(arms) => arms,
        };
        let Some(subject) = subject else { return Route::Unavailable(Unavailable::NoSubject) };
        match bucketing::pick(self.id, arms, |arm| arm.weight, subject) {
            Some(arm) => Route::Serve(Served {
                experiment: self.id,
                variant: arm.variant,
                version: arm.version,
                subject: subject.kind(),
                checkpoint: Arc::clone(&arm.checkpoint),
            }),
            None => Route::Unavailable(Unavailable::NoVariant),
        }
    }

    pub(super) fn new(head: &HeadRow, slots: Vec<Slot<VersionRow>>) -> Self {
        let outline = Outline::new(head, &slots, |version| version.identity);
        let state = match head.status {
            Status::Paused => State::Paused,
            _ if slots.is_empty() => State::Broken(Unavailable::NoVariant),
            _ => slots
                .into_iter()
                .map(Arm::new)
                .collect::<Result<Box<[_]>, _>>()
                .map_or_else(State::Broken, State::Active),
        };
        Self { id: head.id, outline, state }
    }

    /// What it is to be compared by with what the database has by now.
    pub(crate) fn outline(&self) -> &Outline {
        &self.outline
    }

    /// Why none of its requests can be served, if that is so.
    pub(crate) fn broken(&self) -> Option<&Unavailable> {
        match &self.state {
            State::Broken(reason) => Some(reason),
            State::Paused | State::Active(_) => None,
        }
    }
}

impl Arm {
    fn new(slot: Slot<VersionRow>) -> Result<Self, Unavailable> {
        let variant = slot.id;
        let weight = slot.weight.map_err(|reason| Unavailable::UnreadableVariant {
            variant,
            reason: Arc::new(reason),
        })?;
        let current = slot.current.ok_or(Unavailable::NoCurrentVersion(variant))?;
        let version = current.identity.id();
        let unreadable = |reason| Unavailable::Unreadable { version, reason: Arc::new(reason) };
        let checkpoint = Checkpoint {
            upstream: current.upstream.0.map_err(unreadable)?,
            key: current.encrypted_api_key.0.map_err(unreadable)?,
        };
        Ok(Self { variant, weight, version, checkpoint: Arc::new(checkpoint) })
    }
}
