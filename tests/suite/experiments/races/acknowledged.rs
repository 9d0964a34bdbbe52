//! What callers were answered, and whether it is stored.

use diesel_async::AsyncPgConnection;
use model_experiments::Page;
use model_experiments::experiments::{self, Experiment, Variant, Version};
use model_experiments::recording::{self, Outcome};
use model_experiments::routing::Subject;
use model_experiments::values::{ExperimentId, Status, UsageId, VariantId, VersionId};
use std::collections::{BTreeMap, BTreeSet};

use crate::experiments::model::answer::{Answer, Routed, Served};
use crate::experiments::model::known::Known;
use crate::experiments::model::operations::Operation;
use crate::experiments::model::rules::STEPS;
use crate::support::fixtures::picked;

/// An experiment's variants.
pub type Structure = (ExperimentId, Vec<Variant>);

#[derive(Default)]
pub struct Acknowledged {
    experiments: BTreeMap<ExperimentId, Vec<Experiment>>,
    variants: BTreeMap<VariantId, Vec<Variant>>,
    versions: BTreeMap<VersionId, Version>,
    deleted: BTreeSet<ExperimentId>,
    deleted_variants: BTreeSet<VariantId>,
    /// Structures as they were read after an activation.
    pub structures: Vec<Structure>,
    inserted_usages: BTreeSet<UsageId>,
    recorded: Vec<(UsageId, Served, Outcome)>,
    routed: Vec<(&'static str, Routed)>,
}

impl Acknowledged {
    pub fn add(&mut self, known: &Known, operation: Operation, answer: Answer) {
        match (operation, answer) {
            (_, Answer::Experiment(row)) => {
                self.experiments.entry(row.id).or_default().push(row);
            }
            (_, Answer::Variant(row)) => self.variants.entry(row.id).or_default().push(row),
            (_, Answer::Version(row)) => {
                self.versions.insert(row.id, row);
            }
            (Operation::Delete(number), Answer::Deleted) => {
                self.deleted.insert(known.experiment(number));
            }
            (Operation::RemoveVariant(number), Answer::Deleted) => {
                self.deleted_variants.insert(known.variant(number));
            }
            (Operation::InsertUsage { usage, .. }, Answer::UsageInserted(true)) => {
                self.inserted_usages.insert(known.usage_id(usage));
            }
            (
                Operation::Record { usage, version, subject, .. }
                | Operation::Attribute { usage, version, subject },
                Answer::Recorded(outcome),
            ) => {
                let served = Served { version: known.version(version), subject };
                self.recorded.push((known.usage_id(usage), served, outcome));
            }
            (Operation::Route { user, .. }, Answer::Routed(routed)) => {
                self.routed.push((user, routed));
            }
            _ => {}
        }
    }

    /// Checks that every answer is stored. If `is_all`, no operation was cancelled, and nothing
    /// else may be stored either.
    pub async fn check(&self, conn: &mut AsyncPgConnection, is_all: bool) {
        let mut structures = BTreeMap::new();
        for (id, told) in &self.experiments {
            let found = experiments::find(conn, *id).await.unwrap();
            assert!(!self.deleted.contains(id) || found.is_none(), "{id} isn't deleted");
            assert!(found.is_some() || self.deleted.contains(id) || !is_all, "{id} is lost");
            let Some(found) = found else { continue };
            check_experiment(told, found, is_all);
            let variants = experiments::list_variants(conn, *id).await.unwrap();
            self.check_variants(*id, &variants, is_all);
            for variant in &variants {
                let versions =
                    experiments::list_versions(conn, variant.id, Page::first(1_000)).await.unwrap();
                self.check_versions(variant.id, &versions, is_all);
            }
            structures.insert(*id, variants);
        }
        self.check_structures(&structures);
        self.check_routes(&structures);
        self.check_usages(conn, is_all).await;
    }

    fn check_variants(&self, experiment: ExperimentId, found: &[Variant], is_all: bool) {
        for variant in found {
            assert!(!self.deleted_variants.contains(&variant.id), "{variant:?} isn't deleted");
            assert!(self.variants.contains_key(&variant.id) || !is_all, "{variant:?} is nobody's");
        }
        for (id, told) in &self.variants {
            let is_of_experiment = told.iter().all(|told| told.experiment_id == experiment);
            if !is_of_experiment || self.deleted_variants.contains(id) {
                continue;
            }
            let Some(found) = found.iter().find(|found| found.id == *id) else {
                assert!(!is_all, "{id} is lost");
                continue;
            };
            let last = told.iter().max_by_key(|told| told.updated_at).unwrap();
            assert!(last.updated_at <= found.updated_at, "{last:?} is lost: {found:?}");
            if is_all || last.updated_at == found.updated_at {
                assert_eq!(last, found);
            }
        }
    }

    fn check_versions(&self, variant: VariantId, found: &[Version], is_all: bool) {
        let told = self.versions.values().filter(|told| told.variant_id == variant);
        for told in told.clone() {
            assert!(found.contains(told), "{told:?} isn't among {found:?}");
        }
        assert!(told.count() == found.len() || !is_all, "somebody else's are among {found:?}");
    }

    /// The structure of an active experiment stays as it is, except for labels.
    fn check_structures(&self, found: &BTreeMap<ExperimentId, Vec<Variant>>) {
        let weights = |variants: &[Variant]| {
            variants.iter().map(|variant| (variant.id, variant.weight)).collect::<Vec<_>>()
        };
        for (id, seen) in &self.structures {
            assert_eq!(weights(seen), weights(&found[id]));
        }
    }

    /// The variant that served a user is the one that the final structure picks.
    fn check_routes(&self, found: &BTreeMap<ExperimentId, Vec<Variant>>) {
        for (user, routed) in &self.routed {
            match routed {
                Routed::Serve { experiment, variant, served, upstream, .. } => {
                    let picked = picked(*experiment, &found[experiment], Subject::user(*user));
                    assert_eq!(picked.id, *variant);
                    if let Some(version) = self.versions.get(&served.version) {
                        assert_eq!(
                            (version.variant_id, version.upstream()),
                            (*variant, Ok(upstream))
                        );
                    }
                }
                Routed::NotExperimented | Routed::Paused => {}
                Routed::Unavailable(reason) => panic!("{reason}"),
            }
        }
    }

    async fn check_usages(&self, conn: &mut AsyncPgConnection, is_all: bool) {
        let recorded = self.recorded.iter().map(|(usage, ..)| usage);
        for id in self.inserted_usages.iter().chain(recorded).collect::<BTreeSet<_>>() {
            let found = recording::find_usage(conn, *id).await.unwrap();
            assert!(found.is_some(), "{id} is lost");
            let request = recording::find_request(conn, *id).await.unwrap();
            let told = self.recorded.iter().filter(|(usage, ..)| usage == id);
            let mut times = 0;
            for (_, served, outcome) in told {
                let Some(request) = &request else { panic!("the request of {id} is lost") };
                assert_eq!(request.variant_version_id, served.version);
                assert_eq!(request.allocation_subject, served.subject);
                times += usize::from(*outcome == Outcome::Recorded);
            }
            assert!(times <= 1, "{id} was recorded {times} times");
            assert!(times == usize::from(request.is_some()) || !is_all, "{id} is nobody's");
        }
    }
}

/// Each row that was answered follows from the one before, and the stored one from the last.
fn check_experiment(told: &[Experiment], found: Experiment, is_all: bool) {
    let mut rows = told.to_vec();
    rows.sort_by_key(|row| row.updated_at);
    let last = rows.last().unwrap();
    assert!(!is_all || *last == found, "{last:?} is lost: {found:?}");
    rows.push(found);
    for pair in rows.windows(2) {
        let [before, after] = pair else { unreachable!() };
        assert!(before.updated_at < after.updated_at || before == after, "{pair:?}");
        assert_eq!(before.created_at, after.created_at);
        assert!(before.started_at.is_none() || before.started_at == after.started_at, "{pair:?}");
        assert!(before.ended_at.is_none() || before.ended_at == after.ended_at, "{pair:?}");
        let is_step = STEPS.contains(&(before.status, after.status));
        assert!(before.status == after.status || is_step || !is_all, "{pair:?}");
        let has_left_draft = before.status != Status::Draft;
        assert!(!has_left_draft || before.public_model_id == after.public_model_id, "{pair:?}");
    }
}
