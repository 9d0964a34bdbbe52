//! Callers who change the same few experiments at once, some of them cancelled: every refusal is a
//! documented one, every rule holds, and what was acknowledged is stored.

mod acknowledged;
mod round;
mod rules;

use crate::experiments::model::{Seen, strategy};
use crate::experiments::races::round::{CallerPlan, Planned, Round, TAKE_ANOTHER};
use crate::random;
use crate::routing::cache::{agrees, cache, notified};
use crate::support::TestDatabase;
use model_experiments::{Error, Pool, PoolOptions, experiments};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Barrier;

use crate::support::fixtures::{
    draft, eventually, label, number, pid, public_model_id, ready, weight,
};

const CALLERS: usize = 32;
const CONNECTIONS: usize = 8;

/// How many operations each caller has in a round: few, since completed experiments don't change.
const EACH: usize = 5;

/// How many kinds of operations are planned.
const KINDS: usize = 19;

/// The most rounds until each kind of operation had each outcome that it must have.
const MOST_ROUNDS: usize = 100;

/// What each caller does in a round, each operation with the number of polls after which it is
/// cancelled.
fn plan(polls: impl Strategy<Value = usize>) -> impl Strategy<Value = Vec<CallerPlan>> {
    let operation = prop_oneof![
        6 => strategy::lifecycle(),
        4 => strategy::structure(),
        4 => strategy::publication(),
        5 => strategy::recording(),
        3 => strategy::route(),
    ];
    let planned = (operation, polls).prop_map(|(operation, polls)| Planned { operation, polls });
    vec(vec(planned, EACH), CALLERS)
}

/// A pool with timeouts that a busy machine doesn't reach.
fn pool(db: &TestDatabase, size: usize) -> Pool {
    let wait = Duration::from_secs(60);
    let options = PoolOptions::default().max_size(size).wait_timeout(wait).create_timeout(wait);
    Pool::new(db.options(), options).unwrap()
}

/// The kinds of planned operations that never had the outcome `end`.
fn missing(seen: &Seen, end: &str) -> Vec<&'static str> {
    let names: BTreeSet<_> = seen.keys().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), KINDS, "{names:?}");
    names.into_iter().filter(|name| !seen.contains_key(&(*name, end.to_owned()))).collect()
}

/// Takes all connections of the pool. Checks that there are no others, that each works and that
/// none is inside a transaction. Returns the processes on the server.
async fn settle(pool: &Pool) -> BTreeSet<i64> {
    let mut conns = Vec::new();
    for _ in 0..CONNECTIONS {
        conns.push(pool.get().await.unwrap());
    }
    let mut pids = BTreeSet::new();
    for conn in &mut conns {
        let draft = draft(conn, "partner/fresh").await.id;
        experiments::add_variant(conn, draft, &label("a"), weight(1)).await.unwrap();
        pids.insert(pid(conn).await);
    }
    let backends = "SELECT count(*) AS number FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend'";
    let all = CONNECTIONS as i64;
    let [first, second, ..] = &mut conns[..] else { panic!("a pool of {CONNECTIONS}") };
    eventually("cancelled connections are gone", async || number(first, backends).await == all)
        .await;
    let idle = format!("{backends} AND pid <> pg_backend_pid() AND state = 'idle'");
    for conn in [first, second] {
        assert_eq!(number(conn, &idle).await, all - 1);
    }
    pids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_callers_break_no_rule_and_lose_nothing() {
    const ROUNDS: usize = 30;
    let db = TestDatabase::new().await;
    let pool = pool(&db, CONNECTIONS);
    let cache = cache(&db, notified()).await;
    let (mut runner, mut seen, mut routed) = (random::runner(), Seen::new(), 0);
    for number in 0..MOST_ROUNDS {
        let round = Arc::new(Round::new(&pool, CALLERS, number).await);
        let plan = plan(Just(usize::MAX)).new_tree(&mut runner).unwrap().current();
        round.run(plan, &mut seen).await;
        routed += agrees(&cache, &mut pool.get().await.unwrap()).await;
        round.acknowledged().check(&mut pool.get().await.unwrap(), true).await;
        if number >= ROUNDS && missing(&seen, "done").is_empty() {
            break;
        }
    }
    rules::check(&mut pool.get().await.unwrap()).await;
    assert_eq!(missing(&seen, "done"), [""; 0]);
    assert!(routed > ROUNDS, "{routed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelled_callers_break_no_rule_and_lose_no_connection() {
    const ROUNDS: usize = 15;
    let db = TestDatabase::new().await;
    let pool = pool(&db, CONNECTIONS);
    let (mut runner, mut seen) = (random::runner(), Seen::new());
    let mut servers = BTreeSet::new();
    for number in 0..MOST_ROUNDS {
        let round = Arc::new(Round::new(&pool, CALLERS, number).await);
        let plan = plan(0..=24_usize).new_tree(&mut runner).unwrap().current();
        round.run(plan, &mut seen).await;
        servers.extend(settle(&pool).await);
        round.acknowledged().check(&mut pool.get().await.unwrap(), false).await;
        let ends = ["done", "cancelled"];
        if number >= ROUNDS && ends.into_iter().all(|end| missing(&seen, end).is_empty()) {
            break;
        }
    }
    rules::check(&mut pool.get().await.unwrap()).await;
    assert_eq!((missing(&seen, "done"), missing(&seen, "cancelled")), (vec![], vec![]));
    assert!(seen.keys().any(|(_, end)| end == TAKE_ANOTHER), "none was left inside a transaction");
    assert!(servers.len() > CONNECTIONS, "none was closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_activations_on_a_public_model_id_wins() {
    const DRAFTS: usize = 64;
    let db = TestDatabase::new().await;
    let pool = pool(&db, DRAFTS);
    let begin = Arc::new(Barrier::new(DRAFTS));
    let mut drafts = Vec::new();
    for _ in 0..DRAFTS {
        drafts.push(ready(&mut pool.get().await.unwrap(), "partner/foo").await.experiment.id);
    }
    let caller = |id| {
        let (pool, begin) = (pool.clone(), Arc::clone(&begin));
        tokio::spawn(async move {
            let conn = &mut pool.get().await.unwrap();
            begin.wait().await;
            experiments::activate(conn, id).await
        })
    };
    let (mut winners, mut refusals) = (Vec::new(), Vec::new());
    for caller in drafts.into_iter().map(caller).collect::<Vec<_>>() {
        match caller.await.unwrap() {
            Ok(winner) => winners.push(winner),
            Err(refusal) => refusals.push(refusal),
        }
    }
    let [winner] = &winners[..] else { panic!("{winners:?}") };
    let taken = Error::PublicModelIdTaken {
        public_model_id: public_model_id("partner/foo"),
        routed_by: winner.id,
    };
    assert_eq!(refusals, vec![taken; DRAFTS - 1]);
}
