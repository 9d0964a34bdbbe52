//! An experiment as routing sees it.

use std::sync::Arc;

use crate::error::Error;
use crate::routing::bucketing::Subject;
use crate::routing::decision::{Picked, Route, Served};
use crate::routing::fingerprint::Fingerprint;
use crate::routing::rows::{Experiment, VersionRow};
use crate::routing::unavailable::Unavailable;
use crate::routing::variants::ServingVariants;
use crate::values::{ExperimentId, Status};

/// An experiment that is active or paused, with what its variants serve now.
///
/// It is served as a whole or not at all. Where one variant has nothing that can be served, nobody
/// is: the shares of the others would no longer be those of the experiment.
///
/// Clones share what it serves.
#[derive(Debug, Clone)]
pub struct RoutedExperiment {
    id: ExperimentId,
    state: State,
    fingerprint: Arc<Fingerprint>,
}

#[derive(Debug, Clone)]
enum State {
    Paused,
    Active(Arc<ServingVariants>),
    /// One of its variants has nothing that can be served, or the experiment wasn't loaded.
    Broken(Unavailable),
}

impl RoutedExperiment {
    /// The experiment's id.
    pub fn id(&self) -> ExperimentId {
        self.id
    }

    /// What to do with a request of `subject`.
    pub fn route(&self, subject: Subject<'_>) -> Route {
        let variants = match &self.state {
            State::Paused => return Route::Paused,
            State::Broken(reason) => return Route::Unavailable(reason.clone()),
            State::Active(variants) => variants,
        };
        let Some(kind) = subject.kind() else {
            return Route::Unavailable(Unavailable::NoSubject);
        };
        let Some(position) = variants.pick(self.id, subject) else {
            return Route::Unavailable(Unavailable::NoVariant);
        };
        let variant = variants.at(position);
        Route::Serve(Served {
            experiment: self.id,
            variant: variant.id,
            version: variant.version,
            subject: kind,
            picked: Picked { variants: Arc::clone(variants), position },
        })
    }

    pub(super) fn new(experiment: Experiment<VersionRow>) -> Self {
        let fingerprint = Fingerprint::new(&experiment, |version| version.identity);
        let Experiment { row, variants } = experiment;
        let state = match row.status {
            Status::Paused => State::Paused,
            _ if variants.is_empty() => State::Broken(Unavailable::NoVariant),
            _ => match ServingVariants::new(variants) {
                Ok(variants) => State::Active(Arc::new(variants)),
                Err(reason) => State::Broken(reason),
            },
        };
        Self { id: row.id, state, fingerprint: Arc::new(fingerprint) }
    }

    /// What stands for an experiment that couldn't be loaded.
    pub(crate) fn not_loaded(fingerprint: Fingerprint, reason: Error) -> Self {
        let id = fingerprint.experiment();
        let reason = Unavailable::NotLoaded { experiment: id, reason: Arc::new(reason) };
        Self { id, state: State::Broken(reason), fingerprint: Arc::new(fingerprint) }
    }

    /// What stands for this experiment, now that the database has it no longer.
    pub(crate) fn vanished(self) -> Self {
        Self { state: State::Broken(Unavailable::Vanished(self.id)), ..self }
    }

    /// Whether it serves what the database has under `fingerprint`.
    pub(crate) fn is_current(&self, fingerprint: &Fingerprint) -> bool {
        let is_vanished = matches!(self.state, State::Broken(Unavailable::Vanished(_)));
        !is_vanished && *self.fingerprint == *fingerprint
    }

    /// The fingerprint that each poll compares.
    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Why none of its requests can be served, if that is so.
    pub(crate) fn broken(&self) -> Option<&Unavailable> {
        match &self.state {
            State::Broken(reason) => Some(reason),
            State::Paused | State::Active(_) => None,
        }
    }
}
