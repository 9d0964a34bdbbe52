//! The experiments in a routing cache.

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use crate::routing::bucketing::Subject;
use crate::routing::decision::Route;
use crate::routing::experiment::RoutedExperiment;
use crate::routing::fingerprint::Fingerprint;

/// The maps that the experiments are spread over. A change copies one of them: of ten thousand
/// experiments it has forty, and copying it takes a hundredth of what loading the change takes.
const SHARDS: usize = 256;

type Shard = HashMap<Arc<str>, RoutedExperiment, RandomState>;

/// Every routed experiment by its public model id. One task changes it, and readers never wait.
pub(super) struct Snapshot {
    shards: Box<[ArcSwap<Shard>]>,
    hasher: RandomState,
}

impl Snapshot {
    /// A snapshot without an experiment.
    pub(super) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| ArcSwap::default()).collect();
        Self { shards, hasher: RandomState::default() }
    }

    /// What to do with a request of `subject` for `public_model_id`.
    pub(super) fn route(&self, public_model_id: &str, subject: Subject<'_>) -> Route {
        match self.shard(public_model_id).load().get(public_model_id) {
            Some(experiment) => experiment.route(subject),
            None => Route::NotExperimented,
        }
    }

    pub(super) fn find(&self, public_model_id: &str) -> Option<RoutedExperiment> {
        self.shard(public_model_id).load().get(public_model_id).cloned()
    }

    /// Replaces the experiment of each public model id. `None` removes it.
    pub(super) fn replace<'i>(
        &self,
        changes: impl IntoIterator<Item = (&'i str, Option<RoutedExperiment>)>,
    ) {
        let mut changed: HashMap<usize, Shard> = HashMap::new();
        for (id, experiment) in changes {
            let at = shard(&self.hasher, id);
            let shard = changed.entry(at).or_insert_with(|| Shard::clone(&self.shards[at].load()));
            match experiment {
                Some(experiment) => shard.insert(id.into(), experiment),
                None => shard.remove(id),
            };
        }
        for (at, shard) in changed {
            self.shards[at].store(Arc::new(shard));
        }
    }

    /// Ids whose cached entry differs from `fingerprints`, the complete current list.
    pub(super) fn changed(&self, fingerprints: &[(String, Fingerprint)]) -> Vec<String> {
        let routed: HashSet<&str> = fingerprints.iter().map(|(id, _)| id.as_str()).collect();
        let differs = |(id, fingerprint): &&(String, Fingerprint)| {
            self.find(id).is_none_or(|held| !held.is_current(fingerprint))
        };
        let mut changed: Vec<_> =
            fingerprints.iter().filter(differs).map(|(id, _)| id.clone()).collect();
        for shard in &self.shards {
            let shard = shard.load();
            let gone = shard.keys().filter(|id| !routed.contains(&***id));
            changed.extend(gone.map(|id| String::from(&**id)));
        }
        changed
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.load().len()).sum()
    }

    fn shard(&self, public_model_id: &str) -> &ArcSwap<Shard> {
        &self.shards[shard(&self.hasher, public_model_id)]
    }
}

fn shard(hasher: &RandomState, public_model_id: &str) -> usize {
    // The maps have hashers of their own, with other seeds.
    (hasher.hash_one(public_model_id) % SHARDS as u64) as usize
}
