//! No pick answers by an older state than an earlier pick did.

use crate::routing::cache::{cache, internal_id_of, notified, polled};
use crate::support::TestDatabase;
use crate::support::fixtures::{active, eventually, publish_now};
use model_experiments::RoutingCache;
use model_experiments::routing::{Route, Subject};
use model_experiments::values::VariantId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use tokio::task::yield_now;

/// How many versions are published while threads watch.
const VERSIONS: usize = 200;

/// A user, and the latest version that any thread saw serve them.
struct Watched {
    variant: VariantId,
    user: String,
    latest: AtomicUsize,
}

impl Watched {
    /// A user whom `variant` serves.
    fn of(variant: VariantId, cache: &RoutingCache) -> Self {
        let is_served_by_it = |user: &String| {
            let route = cache.pick("partner/foo", Subject::user(user.as_str()));
            matches!(route, Route::Serve(served) if served.variant == variant)
        };
        let user = (0..1_000).map(|number| format!("user-{number}")).find(is_served_by_it);
        Self { variant, user: user.unwrap(), latest: AtomicUsize::new(0) }
    }

    /// The number of the version that serves the user, whose variant never changes.
    fn version(&self, cache: &RoutingCache) -> usize {
        let route = cache.pick("partner/foo", Subject::user(self.user.as_str()));
        let Route::Serve(served) = &route else { panic!("{route:?}") };
        assert_eq!(served.variant, self.variant);
        internal_id_of(&route).unwrap().parse().unwrap_or_default()
    }

    /// Fails if an older version serves than any thread saw before. Returns whether a newer one
    /// does.
    fn check(&self, cache: &RoutingCache) -> bool {
        let before = self.latest.load(Ordering::SeqCst);
        let now = self.version(cache);
        assert!(now >= before, "saw {now} after {before}");
        self.latest.fetch_max(now, Ordering::SeqCst) < now
    }
}

/// Checks users until `is_over`. Returns how often a newer version was seen.
fn watch(cache: &RoutingCache, watched: &[Watched], is_over: &AtomicBool) -> usize {
    let mut newer = 0;
    while !is_over.load(Ordering::Relaxed) {
        newer += watched.iter().filter(|user| user.check(cache)).count();
    }
    newer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_thread_sees_an_older_version_than_another_saw_before() {
    for options in [notified(), polled()] {
        let db = TestDatabase::new().await;
        let conn = &mut db.connect().await;
        let foo = active(conn, "partner/foo").await;
        let cache = cache(&db, options).await;
        let watched = Arc::new(
            [foo.control.id, foo.candidate.id].map(|variant| Watched::of(variant, &cache)),
        );
        let is_over = Arc::new(AtomicBool::new(false));
        let watchers: Vec<_> = (0..3)
            .map(|_| {
                let (cache, watched) = (cache.clone(), Arc::clone(&watched));
                let is_over = Arc::clone(&is_over);
                thread::spawn(move || watch(&cache, &*watched, &is_over))
            })
            .collect();
        for version in 1..=VERSIONS {
            for user in &*watched {
                publish_now(conn, user.variant, &version.to_string()).await;
            }
        }
        eventually("the last ones are served", async || {
            yield_now().await;
            watched.iter().all(|user| user.version(&cache) == VERSIONS)
        })
        .await;
        is_over.store(true, Ordering::Relaxed);
        let newer: usize = watchers.into_iter().map(|watcher| watcher.join().unwrap()).sum();
        assert!(newer > 20, "of {} versions, {newer} were seen", 2 * VERSIONS);
    }
}
