//! An experiment as routing sees it.

use std::sync::Arc;

use super::outline::Outline;
use super::route::{Route, Served, ServedBy, Unavailable};
use super::rows::{HeadRow, Slot, VersionRow};
use crate::bucketing::{Subject, WeightLine};
use crate::values::{EncryptedApiKey, ExperimentId, Status, Upstream, VariantId, VersionId};

/// An experiment that is active or paused, with what its variants serve now.
///
/// It is served as a whole or not at all: where one variant has nothing that can be served, nobody is, as the
/// shares of the others would no longer be those of the experiment.
///
/// Clones share what it serves.
#[derive(Debug, Clone)]
pub struct RoutedExperiment {
    id: ExperimentId,
    state: State,
    outline: Arc<Outline>,
}

#[derive(Debug, Clone)]
enum State {
    Paused,
    Active(Arc<Arms>),
    /// Active, and one of its variants has nothing that can be served.
    Broken(Unavailable),
}

/// The variants of an active experiment in ascending order of their ids.
#[derive(Debug)]
pub(super) struct Arms {
    line: WeightLine,
    pub(super) arms: Box<[Arm]>,
}

/// A variant with its current version.
#[derive(Debug)]
pub(super) struct Arm {
    pub(super) variant: VariantId,
    pub(super) version: VersionId,
    pub(super) checkpoint: Box<Checkpoint>,
}

/// What a version calls.
#[derive(Debug, PartialEq)]
pub(super) struct Checkpoint {
    pub(super) upstream: Upstream,
    pub(super) key: EncryptedApiKey,
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
        match arms.pick(self.id, subject) {
            Some((at, arm)) => Route::Serve(Served {
                experiment: self.id,
                variant: arm.variant,
                version: arm.version,
                subject: subject.kind(),
                by: ServedBy { arms: Arc::clone(arms), at },
            }),
            None => Route::Unavailable(Unavailable::NoVariant),
        }
    }

    pub(super) fn new(head: &HeadRow, slots: Vec<Slot<VersionRow>>) -> Self {
        let outline = Outline::new(head, &slots, |version| version.identity);
        let state = match head.status {
            Status::Paused => State::Paused,
            _ if slots.is_empty() => State::Broken(Unavailable::NoVariant),
            _ => match Arms::new(slots) {
                Ok(arms) => State::Active(Arc::new(arms)),
                Err(reason) => State::Broken(reason),
            },
        };
        Self { id: head.id, state, outline: Arc::new(outline) }
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

impl Arms {
    fn new(slots: Vec<Slot<VersionRow>>) -> Result<Self, Unavailable> {
        let mut weights = Vec::with_capacity(slots.len());
        let mut arms = Vec::with_capacity(slots.len());
        for slot in slots {
            let variant = slot.id;
            weights.push(slot.weight.map_err(|reason| Unavailable::UnreadableVariant {
                variant,
                reason: Arc::new(reason),
            })?);
            let current = slot.current.ok_or(Unavailable::NoCurrentVersion(variant))?;
            let version = current.identity.id();
            let unreadable = |reason| Unavailable::Unreadable { version, reason: Arc::new(reason) };
            let upstream = current.upstream.0.map_err(unreadable)?;
            let key = current.encrypted_api_key.0.map_err(unreadable)?;
            arms.push(Arm { variant, version, checkpoint: Box::new(Checkpoint { upstream, key }) });
        }
        Ok(Self { line: WeightLine::new(weights.into_iter()), arms: arms.into() })
    }

    fn pick(&self, experiment: ExperimentId, subject: Subject<'_>) -> Option<(usize, &Arm)> {
        let at = self.line.pick(experiment, subject)?;
        Some((at, self.arms.get(at)?))
    }
}
