//! What was seen once is never unseen.

use super::{announced, cache, internal_id_of, polled, user};
use crate::support::TestDatabase;
use crate::support::fixtures::{active, eventually, publish_now};
use model_experiments::RoutingCache;
use model_experiments::routing::Route;
use model_experiments::values::VariantId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use tokio::task::yield_now;

/// How many versions are published while everybody looks.
const VERSIONS: usize = 200;

/// A user of each of two variants, and what was seen of them by anybody.
struct Watched {
    users: [(VariantId, String); 2],
    latest: [AtomicUsize; 2],
    is_over: AtomicBool,
}

/// The number of the version that serves a user, who never moves.
fn number(cache: &RoutingCache, (variant, name): &(VariantId, String)) -> usize {
    let route = cache.pick("partner/foo", user(name));
    let Route::Serve(served) = &route else { panic!("{route:?}") };
    assert_eq!(served.variant, *variant);
    internal_id_of(&route).unwrap().parse().unwrap_or_default()
}

/// Looks until it is over: nobody sees an older version than anybody saw before; tells how often a newer one was seen.
fn watch(cache: &RoutingCache, watched: &Watched) -> usize {
    let mut newer = 0;
    while !watched.is_over.load(Ordering::Relaxed) {
        for (user, latest) in watched.users.iter().zip(&watched.latest) {
            let before = latest.load(Ordering::SeqCst);
            let now = number(cache, user);
            assert!(now >= before, "saw {now} after {before}");
            if latest.fetch_max(now, Ordering::SeqCst) < now {
                newer += 1;
            }
        }
    }
    newer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_an_older_version_than_anybody_saw_before() {
    for options in [announced(), polled()] {
        let db = TestDatabase::new().await;
        let conn = &mut db.connect().await;
        let foo = active(conn, "partner/foo").await;
        let cache = cache(&db, options).await;
        let user_of = |variant| {
            let names = (0..1_000).map(|at| format!("user-{at}"));
            let is_of = |name: &String| {
                let route = cache.pick("partner/foo", user(name));
                matches!(route, Route::Serve(served) if served.variant == variant)
            };
            (variant, names.into_iter().find(is_of).unwrap())
        };
        let watched = Arc::new(Watched {
            users: [foo.control.id, foo.candidate.id].map(user_of),
            latest: Default::default(),
            is_over: AtomicBool::new(false),
        });
        let watchers: Vec<_> = (0..3)
            .map(|_| {
                let (cache, watched) = (cache.clone(), Arc::clone(&watched));
                thread::spawn(move || watch(&cache, &watched))
            })
            .collect();
        for version in 1..=VERSIONS {
            for (variant, _) in &watched.users {
                publish_now(conn, *variant, &version.to_string()).await;
            }
        }
        eventually("the last ones are served", async || {
            yield_now().await;
            watched.users.iter().all(|user| number(&cache, user) == VERSIONS)
        })
        .await;
        watched.is_over.store(true, Ordering::Relaxed);
        let newer: usize = watchers.into_iter().map(|watcher| watcher.join().unwrap()).sum();
        assert!(newer > 20, "of {} versions, {newer} were seen", 2 * VERSIONS);
    }
}
