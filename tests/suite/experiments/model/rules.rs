//! The rules, on lists in memory.
//!
//! The database makes ids and instants, so they are taken from its answer. An instant must be later
//! than all before it.

use crate::experiments::model::answer::{Answer, CurrentVersions, Routed, Served};
use crate::experiments::model::known::{API_KEYS, Known, TIE_KEY};
use crate::experiments::model::operations::{Moment, Operation};
use crate::experiments::model::run::OPERATOR;
use crate::support::fixtures::{label, picked, upstream, weight};
use chrono::Duration;
use model_experiments::error::NotReady;
use model_experiments::experiments::{Experiment, Variant, Version};
use model_experiments::recording::{Outcome, Usage};
use model_experiments::routing::Subject;
use model_experiments::values::{
    AllocationSubject, ExperimentId, InvalidValue, PublicModelId, Status, Timestamp, UsageId,
    VariantId, VersionId,
};
use model_experiments::{Error, Result};
use std::collections::BTreeMap;

/// Every transition of an experiment's life.
pub const STEPS: [(Status, Status); 5] = [
    (Status::Draft, Status::Active),
    (Status::Active, Status::Paused),
    (Status::Paused, Status::Active),
    (Status::Active, Status::Completed),
    (Status::Paused, Status::Completed),
];

pub struct Model {
    /// The latest instant that the database returned. No version becomes effective by itself while
    /// a case runs.
    pub now: Timestamp,
    experiments: Vec<Experiment>,
    /// In the order of their ids.
    variants: BTreeMap<VariantId, Variant>,
    versions: Vec<Published>,
    usages: BTreeMap<UsageId, (Usage, Option<Served>)>,
}

struct Published {
    version: Version,
    key: usize,
}

impl Model {
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            experiments: Vec::new(),
            variants: BTreeMap::new(),
            versions: Vec::new(),
            usages: BTreeMap::new(),
        }
    }

    /// The answer that the operation should have given; `told` is the one that it gave.
    pub fn expect(
        &mut self,
        known: &Known,
        operation: Operation,
        told: &Result<Answer>,
    ) -> Result<Answer> {
        use Operation as Op;
        Ok(match operation {
            Op::Create { model, name } => {
                Answer::Experiment(self.create(known.model(model), name, told)?)
            }
            Op::Update { experiment, name, description, model } => {
                let id = known.experiment(experiment);
                let model = model.map(|number| known.model(number));
                Answer::Experiment(self.update(id, name, description, model, told)?)
            }
            Op::Activate(of) => {
                Answer::Experiment(self.step(known.experiment(of), Status::Active, told)?)
            }
            Op::Pause(of) => {
                Answer::Experiment(self.step(known.experiment(of), Status::Paused, told)?)
            }
            Op::Complete(of) => {
                Answer::Experiment(self.step(known.experiment(of), Status::Completed, told)?)
            }
            Op::Archive(of) => Answer::Experiment(self.archive(known.experiment(of), told)?),
            Op::Unarchive(of) => Answer::Experiment(self.unarchive(known.experiment(of), told)?),
            Op::Delete(of) => {
                self.delete(known.experiment(of))?;
                Answer::Deleted
            }

            Op::AddVariant { experiment, label, weight } => {
                let id = known.experiment(experiment);
                Answer::Variant(self.add_variant(id, label, weight, told)?)
            }
            Op::RemoveVariant(variant) => {
                self.remove_variant(known.variant(variant))?;
                Answer::Deleted
            }
            Op::SetWeight { variant, weight } => {
                Answer::Variant(self.set_weight(known.variant(variant), weight, told)?)
            }
            Op::SetLabel { variant, label } => {
                Answer::Variant(self.set_label(known.variant(variant), label, told)?)
            }

            Op::PublishNow { variant, upstream, key } => {
                Answer::Version(self.publish(known.variant(variant), upstream, key, None, told)?)
            }
            Op::PublishAt { variant, upstream, key, at } => {
                let (id, at) = (known.variant(variant), known.moment(at));
                Answer::Version(self.publish(id, upstream, key, Some(at), told)?)
            }
            Op::RotateKey { variant, key } => {
                Answer::Version(self.rotate_key(known.variant(variant), key, told)?)
            }
            Op::WriteTie(version) => Answer::Tie(self.write_tie(known.version(version), told)?),

            Op::InsertUsage { usage, cost } => Answer::UsageInserted(
                self.insert_usage(Usage { cost, ..known.usage(usage).clone() }),
            ),
            Op::Record { usage, cost, version, subject } => {
                let usage = Usage { cost, ..known.usage(usage).clone() };
                let served = Served { version: known.version(version), subject };
                Answer::Recorded(self.record(usage, served)?)
            }
            Op::Attribute { usage, version, subject } => {
                let served = Served { version: known.version(version), subject };
                Answer::Recorded(self.attribute(known.usage_id(usage), served)?)
            }
            Op::Replay(usage) => Answer::Replayed(match self.usages.get(&known.usage_id(usage)) {
                Some((_, Some(_))) => Some(Outcome::AlreadyRecorded),
                _ => None,
            }),

            Op::Route { model, user } => Answer::Routed(self.route(known.model(model), user)),
            Op::FindCurrent { variant, at } => {
                let variant = known.variant(variant);
                self.require_variant(variant)?;
                Answer::Current(self.current_version(variant, known.moment(at)))
            }
            Op::ListCurrent { experiment, at } => {
                let id = self.experiment(known.experiment(experiment))?.id;
                Answer::CurrentVersions(self.current_versions(id, known.moment(at)))
            }
            Op::FindOverview { experiment } => {
                let found = self.experiment(known.experiment(experiment))?;
                let current = self.current_versions(found.id, known.moment(Moment::Latest));
                Answer::Overview(found.clone(), current)
            }
            Op::ReadHistory { variant, .. } => {
                let variant = known.variant(variant);
                self.require_variant(variant)?;
                Answer::History(self.history(variant))
            }
            Op::List { model, status, include_archived, until } => {
                let (model, until) = (known.model(model), known.moment(until));
                let mut listed = self.experiments.clone();
                listed.retain(|of| {
                    of.public_model_id == *model
                        && status.is_none_or(|status| of.status == status)
                        && (include_archived || !of.is_archived)
                        && of.created_at <= until
                });
                listed.sort_by_key(|of| (of.created_at, of.id));
                listed.reverse();
                Answer::Experiments(listed)
            }
            Op::FindUsage(usage) => Answer::Usage(self.usages.get(&known.usage_id(usage)).cloned()),
        })
    }

    fn create(
        &mut self,
        model: &PublicModelId,
        name: &str,
        told: &Result<Answer>,
    ) -> Result<Experiment> {
        check_name(name)?;
        let Ok(Answer::Experiment(told)) = told else { return Err(row_expected()) };
        let mut new = told.clone();
        new.public_model_id = model.clone();
        new.name = name.to_owned();
        new.description = None;
        new.status = Status::Draft;
        new.is_archived = false;
        new.created_by_user_id = None;
        new.created_at = self.later(told.created_at);
        new.updated_at = new.created_at;
        new.started_at = None;
        new.ended_at = None;
        self.experiments.push(new.clone());
        Ok(new)
    }

    fn update(
        &mut self,
        id: ExperimentId,
        name: Option<&str>,
        description: Option<Option<&str>>,
        model: Option<&PublicModelId>,
        told: &Result<Answer>,
    ) -> Result<Experiment> {
        name.map_or(Ok(()), check_name)?;
        let experiment = self.experiment(id)?;
        if model.is_some_and(|model| *model != experiment.public_model_id) {
            require_draft(experiment)?;
        }
        Ok(self.change(id, told, |experiment, _| {
            if let Some(name) = name {
                experiment.name = name.to_owned();
            }
            if let Some(description) = description {
                experiment.description = description.map(str::to_owned);
            }
            if let Some(model) = model {
                experiment.public_model_id = model.clone();
            }
        }))
    }

    fn step(&mut self, id: ExperimentId, to: Status, told: &Result<Answer>) -> Result<Experiment> {
        let experiment = self.experiment(id)?;
        let from = experiment.status;
        if from == to {
            return Ok(experiment.clone());
        }
        if !STEPS.contains(&(from, to)) {
            return Err(Error::InvalidTransition { experiment: id, from, to });
        }
        if to == Status::Active {
            self.require_ready(experiment)?;
        }
        Ok(self.change(id, told, |experiment, at| {
            experiment.status = to;
            if from == Status::Draft {
                experiment.started_at = Some(at);
            }
            if to == Status::Completed {
                experiment.ended_at = Some(at);
            }
        }))
    }

    fn require_ready(&self, experiment: &Experiment) -> Result<()> {
        let not_ready = |reason| Err(Error::NotReady { experiment: experiment.id, reason });
        if experiment.is_archived {
            return not_ready(NotReady::Archived);
        }
        let variants = self.current_versions(experiment.id, self.now);
        if variants.is_empty() {
            return not_ready(NotReady::NoVariant);
        }
        for (variant, current) in variants {
            if current.is_none() {
                let Variant { id, label, .. } = variant;
                return not_ready(NotReady::NoCurrentVersion { variant: id, label });
            }
        }
        match self.routed(&experiment.public_model_id) {
            Some(routed) if routed.id != experiment.id => Err(Error::PublicModelIdTaken {
                public_model_id: routed.public_model_id.clone(),
                routed_by: routed.id,
            }),
            _ => Ok(()),
        }
    }

    fn archive(&mut self, id: ExperimentId, told: &Result<Answer>) -> Result<Experiment> {
        let experiment = self.experiment(id)?;
        if experiment.is_archived {
            return Ok(experiment.clone());
        }
        if experiment.status == Status::Active {
            return Err(Error::ActiveNotArchivable(id));
        }
        Ok(self.change(id, told, |experiment, _| experiment.is_archived = true))
    }

    fn unarchive(&mut self, id: ExperimentId, told: &Result<Answer>) -> Result<Experiment> {
        let experiment = self.experiment(id)?;
        if !experiment.is_archived {
            return Ok(experiment.clone());
        }
        Ok(self.change(id, told, |experiment, _| experiment.is_archived = false))
    }

    fn delete(&mut self, id: ExperimentId) -> Result<()> {
        require_draft(self.experiment(id)?)?;
        let variants: Vec<_> = self.variants_of(id).map(|variant| variant.id).collect();
        if variants.iter().any(|variant| self.has_requests(*variant)) {
            return Err(Error::HasRequests(id));
        }
        self.experiments.retain(|of| of.id != id);
        variants.into_iter().for_each(|variant| self.forget_variant(variant));
        Ok(())
    }

    fn add_variant(
        &mut self,
        experiment: ExperimentId,
        name: &str,
        share: i32,
        told: &Result<Answer>,
    ) -> Result<Variant> {
        require_draft(self.experiment(experiment)?)?;
        self.require_label_free(experiment, None, name)?;
        let Ok(Answer::Variant(told)) = told else { return Err(row_expected()) };
        let mut new = told.clone();
        new.experiment_id = experiment;
        new.label = label(name);
        new.weight = weight(share);
        new.created_at = self.later(told.created_at);
        new.updated_at = new.created_at;
        self.variants.insert(new.id, new.clone());
        Ok(new)
    }

    fn remove_variant(&mut self, id: VariantId) -> Result<()> {
        let experiment = self.experiment_of(id)?;
        require_draft(experiment)?;
        if self.has_requests(id) {
            return Err(Error::HasRequests(experiment.id));
        }
        self.forget_variant(id);
        Ok(())
    }

    fn set_weight(&mut self, id: VariantId, share: i32, told: &Result<Answer>) -> Result<Variant> {
        require_draft(self.experiment_of(id)?)?;
        self.change_variant(id, told, |variant| variant.weight = weight(share))
    }

    fn set_label(&mut self, id: VariantId, name: &str, told: &Result<Answer>) -> Result<Variant> {
        let experiment = self.experiment_of(id)?;
        require_not_completed(experiment)?;
        self.require_label_free(experiment.id, Some(id), name)?;
        self.change_variant(id, told, |variant| variant.label = label(name))
    }

    /// Publishes at once, or for the instant `at`.
    fn publish(
        &mut self,
        variant: VariantId,
        name: &str,
        own_key: Option<usize>,
        at: Option<Timestamp>,
        told: &Result<Answer>,
    ) -> Result<Version> {
        require_not_completed(self.experiment_of(variant)?)?;
        if let Some(effective_at) = at {
            // Instants are hours ahead, or have passed when the database compares them.
            if effective_at < self.now + Duration::minutes(1) {
                let Err(Error::Backdated { now, .. }) = told else {
                    return Err(refusal_expected());
                };
                let now = self.later(*now);
                return Err(Error::Backdated { variant, effective_at, now });
            }
            if self.versions_of(variant).any(|of| of.version.effective_at == effective_at) {
                return Err(Error::InstantTaken { variant, effective_at });
            }
        }
        let before = self.current(variant, at.unwrap_or(self.now));
        let key = match (own_key, before) {
            (Some(key), _) => key,
            (None, Some(before)) => before.key,
            (None, None) => return Err(Error::KeyMissing(variant)),
        };
        let Ok(Answer::Version(told)) = told else { return Err(row_expected()) };
        if told.upstream() != Ok(&upstream(name)) {
            return Err(row_expected());
        }
        let mut new = told.clone();
        new.variant_id = variant;
        new.created_by = Some(OPERATOR.to_owned());
        new.created_at = self.later(told.created_at);
        new.effective_at = at.unwrap_or(new.created_at);
        self.versions.push(Published { version: new.clone(), key });
        Ok(new)
    }

    fn rotate_key(
        &mut self,
        variant: VariantId,
        key: usize,
        told: &Result<Answer>,
    ) -> Result<Version> {
        require_not_completed(self.experiment_of(variant)?)?;
        let current = self.current(variant, self.now).ok_or(Error::NothingToRotate(variant))?;
        let name = current.version.upstream().unwrap().internal_id().to_owned();
        self.publish(variant, &name, Some(key), None, told)
    }

    fn write_tie(
        &mut self,
        scheduled: VersionId,
        told: &Result<Answer>,
    ) -> Result<Option<Version>> {
        let Some(scheduled) = self.versions.iter().find(|of| of.version.id == scheduled) else {
            return Ok(None);
        };
        let scheduled = scheduled.version.clone();
        let status = self.experiment_of(scheduled.variant_id)?.status;
        if scheduled.effective_at <= self.now || status == Status::Completed {
            return Ok(None);
        }
        let Ok(Answer::Tie(Some(told))) = told else { return Err(row_expected()) };
        if told.upstream() != Ok(&upstream("tie")) {
            return Err(row_expected());
        }
        let mut new = told.clone();
        new.variant_id = scheduled.variant_id;
        new.effective_at = scheduled.effective_at;
        new.created_by = None;
        new.created_at = self.later(told.created_at);
        self.versions.push(Published { version: new.clone(), key: TIE_KEY });
        Ok(Some(new))
    }

    fn insert_usage(&mut self, usage: Usage) -> bool {
        let is_new = !self.usages.contains_key(&usage.id);
        if is_new {
            self.usages.insert(usage.id, (usage, None));
        }
        is_new
    }

    fn record(&mut self, usage: Usage, served: Served) -> Result<Outcome> {
        let Some((stored, request)) = self.usages.get(&usage.id) else {
            self.require_version(served.version)?;
            self.usages.insert(usage.id, (usage, Some(served)));
            return Ok(Outcome::Recorded);
        };
        let mut columns = Vec::new();
        if stored.cost != usage.cost {
            columns.push("cost");
        }
        columns.extend(request.iter().flat_map(|request| differences(request, &served)));
        if !columns.is_empty() {
            return Err(Error::RecordedDifferently { usage: usage.id, columns });
        }
        self.attribute(usage.id, served)
    }

    fn attribute(&mut self, usage: UsageId, served: Served) -> Result<Outcome> {
        let (_, request) = self.usages.get(&usage).ok_or(Error::UsageNotFound(usage))?;
        if let Some(request) = request {
            let columns = differences(request, &served);
            if !columns.is_empty() {
                return Err(Error::RecordedDifferently { usage, columns });
            }
            return Ok(Outcome::AlreadyRecorded);
        }
        self.require_version(served.version)?;
        self.usages.entry(usage).and_modify(|(_, request)| *request = Some(served));
        Ok(Outcome::Recorded)
    }

    fn route(&self, model: &PublicModelId, user: &str) -> Routed {
        let Some(experiment) = self.routed(model) else { return Routed::NotExperimented };
        if experiment.status == Status::Paused {
            return Routed::Paused;
        }
        let variants: Vec<_> = self.variants_of(experiment.id).cloned().collect();
        let variant = picked(experiment.id, &variants, Subject::user(user));
        let Published { version, key } = self.current(variant.id, self.now).unwrap();
        Routed::Serve {
            experiment: experiment.id,
            variant: variant.id,
            served: Served { version: version.id, subject: AllocationSubject::User },
            upstream: version.upstream().unwrap().clone(),
            api_key: API_KEYS[*key].to_owned(),
        }
    }

    fn current_versions(&self, experiment: ExperimentId, at: Timestamp) -> CurrentVersions {
        let with_current = |of: &Variant| (of.clone(), self.current_version(of.id, at));
        self.variants_of(experiment).map(with_current).collect()
    }

    fn current_version(&self, variant: VariantId, at: Timestamp) -> Option<Version> {
        self.current(variant, at).map(|of| of.version.clone())
    }

    fn current(&self, variant: VariantId, at: Timestamp) -> Option<&Published> {
        let effective = self.versions_of(variant).filter(|of| of.version.effective_at <= at);
        effective.max_by_key(|of| (of.version.effective_at, of.version.id))
    }

    fn history(&self, variant: VariantId) -> Vec<Version> {
        let mut versions: Vec<_> = self.versions_of(variant).map(|of| of.version.clone()).collect();
        versions.sort_by_key(|version| (version.effective_at, version.id));
        versions.reverse();
        versions
    }

    fn experiment(&self, id: ExperimentId) -> Result<&Experiment> {
        self.experiments.iter().find(|of| of.id == id).ok_or(Error::ExperimentNotFound(id))
    }

    fn experiment_of(&self, variant: VariantId) -> Result<&Experiment> {
        let variant = self.variants.get(&variant).ok_or(Error::VariantNotFound(variant))?;
        self.experiment(variant.experiment_id)
    }

    fn routed(&self, model: &PublicModelId) -> Option<&Experiment> {
        self.experiments.iter().find(|of| {
            of.public_model_id == *model && matches!(of.status, Status::Active | Status::Paused)
        })
    }

    fn variants_of(&self, experiment: ExperimentId) -> impl Iterator<Item = &Variant> {
        self.variants.values().filter(move |variant| variant.experiment_id == experiment)
    }

    fn versions_of(&self, variant: VariantId) -> impl Iterator<Item = &Published> {
        self.versions.iter().filter(move |of| of.version.variant_id == variant)
    }

    fn has_requests(&self, variant: VariantId) -> bool {
        self.versions_of(variant).any(|of| {
            self.usages
                .values()
                .any(|(_, request)| request.is_some_and(|served| served.version == of.version.id))
        })
    }

    fn require_variant(&self, id: VariantId) -> Result<()> {
        self.variants.get(&id).map(drop).ok_or(Error::VariantNotFound(id))
    }

    fn require_version(&self, version: VersionId) -> Result<()> {
        if self.versions.iter().any(|of| of.version.id == version) {
            Ok(())
        } else {
            Err(Error::VersionNotFound(version))
        }
    }

    fn require_label_free(
        &self,
        experiment: ExperimentId,
        own: Option<VariantId>,
        name: &str,
    ) -> Result<()> {
        let label = label(name);
        if self.variants_of(experiment).any(|of| of.label == label && Some(of.id) != own) {
            return Err(Error::LabelTaken { experiment, label });
        }
        Ok(())
    }

    fn forget_variant(&mut self, id: VariantId) {
        self.variants.remove(&id);
        self.versions.retain(|of| of.version.variant_id != id);
    }

    fn change(
        &mut self,
        id: ExperimentId,
        told: &Result<Answer>,
        change: impl FnOnce(&mut Experiment, Timestamp),
    ) -> Experiment {
        let at = self.later(match told {
            Ok(Answer::Experiment(told)) => told.updated_at,
            _ => self.now,
        });
        let experiment = self.experiments.iter_mut().find(|of| of.id == id).unwrap();
        change(experiment, at);
        experiment.updated_at = at;
        experiment.clone()
    }

    fn change_variant(
        &mut self,
        id: VariantId,
        told: &Result<Answer>,
        change: impl FnOnce(&mut Variant),
    ) -> Result<Variant> {
        let at = self.later(match told {
            Ok(Answer::Variant(told)) => told.updated_at,
            _ => self.now,
        });
        let variant = self.variants.get_mut(&id).ok_or(Error::VariantNotFound(id))?;
        change(variant);
        variant.updated_at = at;
        Ok(variant.clone())
    }

    /// The instant that the database returned, if it is later than all before.
    fn later(&mut self, told: Timestamp) -> Timestamp {
        self.now = told.max(self.now + Duration::microseconds(1));
        self.now
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::Invalid(InvalidValue::new("name", "must not be empty")));
    }
    Ok(())
}

fn require_draft(experiment: &Experiment) -> Result<()> {
    match experiment.status {
        Status::Draft => Ok(()),
        status => Err(Error::NotDraft { experiment: experiment.id, status }),
    }
}

fn require_not_completed(experiment: &Experiment) -> Result<()> {
    match experiment.status {
        Status::Completed => Err(Error::Completed(experiment.id)),
        _ => Ok(()),
    }
}

fn differences(stored: &Served, served: &Served) -> Vec<&'static str> {
    let mut columns = Vec::new();
    if stored.version != served.version {
        columns.push("variant_version_id");
    }
    if stored.subject != served.subject {
        columns.push("allocation_subject");
    }
    columns
}

/// An error that no operation returns: a new row was expected, which only the database can make.
fn row_expected() -> Error {
    impossible("a new row was expected")
}

/// An error that no operation returns: a refusal with the database's instant was expected.
fn refusal_expected() -> Error {
    impossible("a refusal as backdated was expected")
}

fn impossible(expected: &str) -> Error {
    Error::UnknownConstraint { name: expected.to_owned() }
}
