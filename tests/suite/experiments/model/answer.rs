//! What an operation answers when it isn't refused.

use crate::support::fixtures::api_key;
use model_experiments::experiments::{Experiment, Variant, Version};
use model_experiments::recording::{Outcome, Usage};
use model_experiments::routing::{Route, Unavailable};
use model_experiments::values::{AllocationSubject, ExperimentId, Upstream, VariantId, VersionId};

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Experiment(Experiment),
    Variant(Variant),
    Version(Version),
    Deleted,
    Tie(Option<Version>),
    /// Whether the usage is new.
    UsageInserted(bool),
    Recorded(Outcome),
    Replayed(Option<Outcome>),
    Routed(Routed),
    Current(Option<Version>),
    CurrentVersions(CurrentVersions),
    Overview(Experiment, CurrentVersions),
    History(Vec<Version>),
    Experiments(Vec<Experiment>),
    Usage(Option<(Usage, Option<Served>)>),
}

/// Variants, each with its current version.
pub type CurrentVersions = Vec<(Variant, Option<Version>)>;

/// The part of a request that operations vary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Served {
    pub version: VersionId,
    pub subject: AllocationSubject,
}

/// A route whose parts can be compared with the model's.
#[derive(Debug, Clone, PartialEq)]
pub enum Routed {
    Serve {
        experiment: ExperimentId,
        variant: VariantId,
        served: Served,
        upstream: Upstream,
        api_key: String,
    },
    NotExperimented,
    Paused,
    Unavailable(Unavailable),
}

impl Answer {
    /// Whether it says more than that there is nothing.
    pub fn has_content(&self) -> bool {
        match self {
            Self::Tie(version) | Self::Current(version) => version.is_some(),
            Self::UsageInserted(is_new) => *is_new,
            Self::Replayed(outcome) => outcome.is_some(),
            Self::Routed(routed) => matches!(routed, Routed::Serve { .. }),
            Self::CurrentVersions(variants) => !variants.is_empty(),
            Self::History(versions) => !versions.is_empty(),
            Self::Experiments(experiments) => !experiments.is_empty(),
            Self::Usage(usage) => usage.is_some(),
            Self::Experiment(_)
            | Self::Variant(_)
            | Self::Version(_)
            | Self::Deleted
            | Self::Overview(..)
            | Self::Recorded(_) => true,
        }
    }
}

impl From<Route> for Routed {
    fn from(route: Route) -> Self {
        match route {
            Route::Serve(served) => Self::Serve {
                experiment: served.experiment,
                variant: served.variant,
                served: Served { version: served.version, subject: served.subject },
                upstream: served.upstream().clone(),
                api_key: api_key(&served),
            },
            Route::NotExperimented => Self::NotExperimented,
            Route::Paused => Self::Paused,
            Route::Unavailable(reason) => Self::Unavailable(reason),
        }
    }
}
