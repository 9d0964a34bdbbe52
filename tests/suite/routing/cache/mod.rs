//! The routing cache: its answers, how soon it sees a change, and outages.

mod decisions;
mod faults;
mod flood;
mod freshness;
mod languages;
mod lifetime;
mod loading;
mod monotonic;
mod observed;
mod vanished;

use crate::support::TestDatabase;
use crate::support::fixtures::{active, eventually, raw};
use diesel_async::AsyncPgConnection;
use model_experiments::routing::{self, Route, Served, Subject};
use model_experiments::{RoutingCache, RoutingOptions, experiments};
use std::time::Duration;
use tokio::task::yield_now;

/// The application name of the cache's connections.
const NAME: &str = "routing cache of a test";

/// Longer than any test. A change that a cache sees before was notified.
const NEVER: Duration = Duration::from_secs(3_600);

/// Options of a cache that sees changes by notifications only.
pub fn notified() -> RoutingOptions {
    RoutingOptions::default().poll_interval(NEVER).max_staleness(2 * NEVER)
}

/// Options of a cache that polls often.
fn polled() -> RoutingOptions {
    RoutingOptions::default().poll_interval(Duration::from_millis(20))
}

pub async fn cache(db: &TestDatabase, options: RoutingOptions) -> RoutingCache {
    RoutingCache::start(&db.options().application_name(NAME), options).await.unwrap()
}

/// What the cache answers to `user-1`.
fn pick(cache: &RoutingCache, model: &str) -> Route {
    cache.pick(model, Subject::user("user-1"))
}

fn is_served(route: &Route) -> bool {
    matches!(route, Route::Serve(_))
}

/// The version that serves `user-1`.
fn served(cache: &RoutingCache, model: &str) -> Served {
    match pick(cache, model) {
        Route::Serve(served) => served,
        route => panic!("{route:?}"),
    }
}

/// Waits until a pick `is_expected`, and returns it.
async fn until(cache: &RoutingCache, model: &str, is_expected: impl Fn(&Route) -> bool) -> Route {
    eventually("the cache sees the change", async || {
        yield_now().await;
        is_expected(&pick(cache, model))
    })
    .await;
    pick(cache, model)
}

/// Waits until the cache has loaded whatever changed before. It learns of this by a notification.
async fn until_loaded(cache: &RoutingCache, conn: &mut AsyncPgConnection) {
    let marker = active(conn, "partner/marker").await.experiment.id;
    until(cache, "partner/marker", is_served).await;
    experiments::complete(conn, marker).await.unwrap();
    until(cache, "partner/marker", |route| *route == Route::NotExperimented).await;
}

/// Waits until the checkpoint `internal_id` serves.
async fn until_served(cache: &RoutingCache, model: &str, internal_id: &str) -> Served {
    until(cache, model, |route| internal_id_of(route) == Some(internal_id)).await;
    served(cache, model)
}

fn internal_id_of(route: &Route) -> Option<&str> {
    match route {
        Route::Serve(served) => Some(served.upstream().internal_id()),
        _ => None,
    }
}

/// Waits until the cache answers as the database does. Returns how many experiments are routed.
pub async fn agrees(cache: &RoutingCache, conn: &mut AsyncPgConnection) -> usize {
    let users: Vec<_> = (0..20).map(|at| format!("user-{at}")).collect();
    eventually("the cache answers as the database does", async || {
        let routed = routing::load_all(conn).await.unwrap();
        routed.len() == cache.len()
            && routed.iter().all(|(model, routed)| {
                users.iter().all(|user| {
                    let subject = Subject::user(user.as_str());
                    cache.pick(model, subject) == routed.route(subject)
                })
            })
    })
    .await;
    cache.len()
}

/// Notifies caches that the routing of `model` changed.
async fn notify(conn: &mut AsyncPgConnection, model: &str) {
    raw(conn, &format!("SELECT pg_notify('model_experiment_routing', '{model}')")).await.unwrap();
}

/// The processes on the server that serve caches of this database.
const BACKENDS: &str = "FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'routing cache of a test'";
