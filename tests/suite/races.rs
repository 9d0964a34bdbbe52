//! Many who change the same few experiments at once, also where they are cancelled: every refusal is a
//! documented one, every rule holds, and what was acknowledged is there.

mod acknowledged;
mod round;
mod rules;

use model_experiments::{Error, Pool, experiments};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Barrier;

use self::round::{Planned, Round, TAKE_ANOTHER};
use crate::model::{Seen, runner, strategy};
use crate::routing_cache::{agrees, announced, cache};
use crate::support::TestDatabase;
use crate::support::fixtures::{
    draft, eventually, label, number, pid, public_model_id, ready, weight,
};

const CALLERS: usize = 32;
const CONNECTIONS: usize = 8;

/// How many operations each caller has in a round: few, since what is completed doesn't change any more.
const EACH: usize = 5;

/// How many kinds of operations are planned.
const KINDS: usize = 19;

/// How many rounds there are at most, until each kind has ended in each way that it has to.
const MOST_ROUNDS: usize = 100;

/// What each caller does in a round.
fn plan(polls: impl Strategy<Value = usize>) -> impl Strategy<Value = Vec<Vec<Planned>>> {
    let operation = prop_oneof![
        6 => strategy::lifecycle(),
        4 => strategy::structure(),
        4 => strategy::publication(),
        5 => strategy::recording(),
        3 => strategy::route(),
    ];
    vec(vec((operation, polls), EACH), CALLERS)
}

/// A pool whose callers wait as long as it takes on a busy machine.
fn pool(db: &TestDatabase, size: usize) -> Pool {
    let wait = Duration::from_secs(60);
    let builder = Pool::builder(db.url()).max_size(size);
    builder.wait_timeout(wait).create_timeout(wait).build().unwrap()
}

/// What never ended so, of all that was planned.
fn missing(seen: &Seen, end: &str) -> Vec<&'static str> {
    let names: BTreeSet<_> = seen.keys().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), KINDS, "{names:?}");
    names.into_iter().filter(|name| !seen.contains_key(&(*name, end.to_owned()))).collect()
}

/// Takes all connections of the pool, and checks that there are no others, that each works and that none is
/// inside a transaction; tells the servers' processes.
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
    eventually("what was cancelled is gone", async || number(&mut conns[0], backends).await == all)
        .await;
    let idle = format!("{backends} AND pid <> pg_backend_pid() AND state = 'idle'");
    for conn in &mut conns[..2] {
        assert_eq!(number(conn, &idle).await, all - 1);
    }
    pids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_races_with_whomever_no_rule_is_broken_and_nothing_is_lost() {
    const ROUNDS: usize = 30;
    let db = TestDatabase::new().await;
    let pool = pool(&db, CONNECTIONS);
    let cache = cache(&db, announced()).await;
    let (mut runner, mut seen, mut routed) = (runner::seeded(), Seen::new(), 0);
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
async fn whoever_is_cancelled_wherever_no_rule_is_broken_and_no_connection_is_lost() {
    const ROUNDS: usize = 15;
    let db = TestDatabase::new().await;
    let pool = pool(&db, CONNECTIONS);
    let (mut runner, mut seen) = (runner::seeded(), Seen::new());
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
async fn of_many_who_activate_at_once_on_one_public_model_id_one_wins() {
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
