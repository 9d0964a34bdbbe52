//! The routing cache: what it answers, how soon it knows, and what it does when it can't know.

mod decisions;
mod faults;
mod freshness;
mod lifetime;
mod monotonic;
mod observed;

use crate::support::TestDatabase;
use crate::support::fixtures::{eventually, raw};
use diesel_async::AsyncPgConnection;
use model_experiments::routing::{self, Route, Served, Subject};
use model_experiments::values::AllocationSubject;
use model_experiments::{RoutingCache, RoutingOptions};
use std::time::Duration;
use tokio::task::yield_now;

/// What the server shows the cache's connection as.
const NAME: &str = "routing cache of a test";

/// So late that a test is over by then: what is seen was announced, or happened for another reason.
const NEVER: Duration = Duration::from_secs(3_600);

/// Polls so rarely that it has to hear of changes.
pub fn announced() -> RoutingOptions {
    RoutingOptions::default().poll_interval(NEVER).max_staleness(2 * NEVER)
}

/// Polls so often that it needn't.
fn polled() -> RoutingOptions {
    RoutingOptions::default().poll_interval(Duration::from_millis(20))
}

pub async fn cache(db: &TestDatabase, options: RoutingOptions) -> RoutingCache {
    RoutingCache::start(&db.url(), options.application_name(NAME)).await.unwrap()
}

fn user(name: &str) -> Option<Subject<'_>> {
    Subject::new(AllocationSubject::User, name)
}

fn pick(cache: &RoutingCache, model: &str) -> Route {
    cache.pick(model, user("user-1"))
}

/// What serves a user's requests.
fn served(cache: &RoutingCache, model: &str) -> Served {
    match pick(cache, model) {
        Route::Serve(served) => served,
        route => panic!("{route:?}"),
    }
}

/// Waits until a pick `is_expected`, and returns it.
async fn until(cache: &RoutingCache, model: &str, is_expected: impl Fn(&Route) -> bool) -> Route {
    eventually("the cache knows", async || {
        yield_now().await;
        is_expected(&pick(cache, model))
    })
    .await;
    pick(cache, model)
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

/// Waits until the cache answers as the database does, and tells how many experiments are routed.
pub async fn agrees(cache: &RoutingCache, conn: &mut AsyncPgConnection) -> usize {
    let users: Vec<_> = (0..20).map(|at| format!("user-{at}")).collect();
    eventually("the cache answers as the database does", async || {
        let routed = routing::load_all(conn).await.unwrap();
        routed.len() == cache.len()
            && routed.iter().all(|(model, routed)| {
                users.iter().all(|name| cache.pick(model, user(name)) == routed.route(user(name)))
            })
    })
    .await;
    cache.len()
}

/// Says on the channel of the caches that what is routed on `model` changed.
async fn announce(conn: &mut AsyncPgConnection, model: &str) {
    raw(conn, &format!("SELECT pg_notify('model_experiment_routing', '{model}')")).await.unwrap();
}

/// The processes on the server that serve caches of this database.
const BACKENDS: &str = "FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'routing cache of a test'";
