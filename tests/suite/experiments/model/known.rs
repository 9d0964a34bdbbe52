//! What the numbers in operations stand for, as far as it was learned from answers.

use chrono::Duration;
use model_experiments::recording::Usage;
use model_experiments::values::{
    EncryptedApiKey, ExperimentId, PublicModelId, Timestamp, UsageId, VariantId, VersionId,
};
use std::sync::LazyLock;
use uuid::Uuid;

use crate::experiments::model::answer::Answer;
use crate::experiments::model::operations::{Moment, NEVER};
use crate::support::fixtures;

/// The API keys that versions are published with.
pub const API_KEYS: [&str; 3] = ["sk-0", "sk-1", "sk-tie"];

/// The key of a version that another writer inserted.
pub const TIE_KEY: usize = 2;

static ENCRYPTED: LazyLock<[EncryptedApiKey; 3]> = LazyLock::new(|| API_KEYS.map(fixtures::key));

pub const MODELS: usize = 2;
pub const USAGES: usize = 6;

#[derive(Clone)]
pub struct Known {
    start: Timestamp,
    pub latest: Timestamp,
    models: Vec<PublicModelId>,
    pub experiments: Vec<(ExperimentId, Timestamp)>,
    pub variants: Vec<VariantId>,
    pub versions: Vec<(VersionId, Timestamp)>,
    pub usages: Vec<Usage>,
}

impl Known {
    /// The public model ids, which no other case has, and the usages that may be recorded.
    pub fn new(start: Timestamp, case: usize) -> Self {
        let model = |number| fixtures::public_model_id(&format!("case-{case}/{number}"));
        Self {
            start,
            latest: start,
            models: (0..MODELS).map(model).collect(),
            experiments: Vec::new(),
            variants: Vec::new(),
            versions: Vec::new(),
            usages: (0..USAGES).map(|_| Usage::new("user")).collect(),
        }
    }

    /// Numbers what the answer shows for the first time.
    pub fn learn(&mut self, answer: &Answer) {
        match answer {
            Answer::Experiment(new) if !self.experiments.iter().any(|(id, _)| *id == new.id) => {
                self.experiments.push((new.id, new.created_at));
            }
            Answer::Variant(new) if !self.variants.contains(&new.id) => {
                self.variants.push(new.id);
            }
            Answer::Version(new) | Answer::Tie(Some(new)) => {
                self.versions.push((new.id, new.effective_at));
            }
            _ => {}
        }
    }

    pub fn model(&self, number: usize) -> &PublicModelId {
        &self.models[number % self.models.len()]
    }

    pub fn experiment(&self, number: usize) -> ExperimentId {
        numbered(&self.experiments, number).map_or(Uuid::max().into(), |(id, _)| *id)
    }

    pub fn variant(&self, number: usize) -> VariantId {
        numbered(&self.variants, number).copied().unwrap_or(Uuid::max().into())
    }

    pub fn version(&self, number: usize) -> VersionId {
        numbered(&self.versions, number).map_or(Uuid::max().into(), |(id, _)| *id)
    }

    pub fn usage(&self, number: usize) -> &Usage {
        &self.usages[number % self.usages.len()]
    }

    pub fn usage_id(&self, number: usize) -> UsageId {
        self.usage(number).id
    }

    pub fn moment(&self, moment: Moment) -> Timestamp {
        match moment {
            Moment::Hour(hour) => self.start + Duration::hours(hour),
            Moment::Latest => self.latest,
            Moment::Effective { version, plus } => {
                let at = numbered(&self.versions, version).map_or(self.start, |(_, at)| *at);
                at + Duration::microseconds(plus)
            }
            Moment::Created { experiment, plus } => {
                let at = numbered(&self.experiments, experiment).map_or(self.start, |(_, at)| *at);
                at + Duration::microseconds(plus)
            }
        }
    }
}

/// The key of a number, encrypted once.
pub fn key(number: usize) -> &'static EncryptedApiKey {
    &ENCRYPTED[number]
}

fn numbered<T>(known: &[T], number: usize) -> Option<&T> {
    if number == NEVER { None } else { known.get(number.checked_rem(known.len())?) }
}
