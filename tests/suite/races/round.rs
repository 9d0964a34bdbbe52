//! Callers who begin at once, and what they are told.

use chrono::{DateTime, Utc};
use model_experiments::error::Transient;
use model_experiments::values::Timestamp;
use model_experiments::{Error, Pool, PooledConnection, Result, experiments};
use std::mem;
use std::sync::{Arc, Mutex};
use tokio::sync::Barrier;

use super::acknowledged::{Acknowledged, Structure};
use crate::model::answer::Answer;
use crate::model::known::Known;
use crate::model::operations::{Operation, refusal};
use crate::model::{Seen, run};
use crate::support::fixtures::cancelled_after;

/// How an operation ends on a connection that was left inside a transaction.
pub const TAKE_ANOTHER: &str = "take another connection";

/// An operation, and how often it is polled before it is cancelled.
pub type Planned = (Operation, usize);

/// What the callers of a round have in common.
pub struct Round {
    pool: Pool,
    begin: Barrier,
    known: Mutex<Known>,
    acknowledged: Mutex<Acknowledged>,
}

impl Round {
    /// Three experiments that lack nothing, on two public model ids.
    pub async fn new(pool: &Pool, callers: usize, number: usize) -> Self {
        let now = DateTime::<Utc>::from(Timestamp::now());
        let round = Self {
            pool: pool.clone(),
            begin: Barrier::new(callers),
            known: Mutex::new(Known::new(now, number)),
            acknowledged: Mutex::default(),
        };
        for experiment in 0..3 {
            let create = Operation::Create { model: experiment, name: "foo" };
            let insert = |label| Operation::InsertVariant { experiment, label, weight: 1 };
            let publish = |variant| {
                let variant = 2 * experiment + variant;
                Operation::PublishNow { variant, upstream: "rc1", key: Some(0) }
            };
            for operation in [create, insert("a"), insert("b"), publish(0), publish(1)] {
                assert_eq!(round.attempt(&mut None, operation, usize::MAX).await, "done");
            }
        }
        round
    }

    /// Lets each caller do what is planned for it, one after the other, and counts how it ended.
    pub async fn run(self: &Arc<Self>, plan: Vec<Vec<Planned>>, seen: &mut Seen) {
        let caller = |planned: Vec<Planned>| {
            let round = Arc::clone(self);
            tokio::spawn(async move {
                round.begin.wait().await;
                let (mut conn, mut ends) = (None, Vec::new());
                for (operation, polls) in planned {
                    let (name, _) = operation.documented();
                    ends.push((name, round.attempt(&mut conn, operation, polls).await));
                }
                ends
            })
        };
        for caller in plan.into_iter().map(caller).collect::<Vec<_>>() {
            for end in caller.await.unwrap() {
                *seen.entry(end).or_default() += 1;
            }
        }
    }

    /// What the callers were told since the last time.
    pub fn acknowledged(&self) -> Acknowledged {
        mem::take(&mut self.acknowledged.lock().unwrap())
    }

    /// Does it unless it is cancelled before, keeps what is acknowledged, and tells how it ended.
    ///
    /// It is done on a connection whose last operation was cancelled, if there is one, as by a caller who
    /// doesn't know better; else on one of the pool.
    async fn attempt(
        &self,
        conn: &mut Option<PooledConnection>,
        operation: Operation,
        polls: usize,
    ) -> String {
        let known = self.known.lock().unwrap().clone();
        // What the host does there without this crate isn't refused.
        if matches!(operation, Operation::Bill { .. }) {
            *conn = None;
        }
        let is_left_over = conn.is_some();
        let told = cancelled_after(polls, call(&self.pool, conn, &known, operation)).await;
        if is_left_over || told.is_some() {
            *conn = None;
        }
        match told {
            None => "cancelled".to_owned(),
            Some(Ok((answer, structure))) => {
                self.known.lock().unwrap().learn(&answer);
                let mut acknowledged = self.acknowledged.lock().unwrap();
                acknowledged.structures.extend(structure);
                acknowledged.add(&known, operation, answer);
                "done".to_owned()
            }
            Some(Err(Error::Transient { kind: Transient::ConnectionLost, .. })) if is_left_over => {
                TAKE_ANOTHER.to_owned()
            }
            Some(Err(error)) => {
                let (refusal, (_, documented)) = (refusal(&error), operation.documented());
                assert!(documented.contains(&refusal.as_str()), "{operation:?}: {error:?}");
                refusal
            }
        }
    }
}

/// What is answered, and of an experiment that is answered to be active its structure, which is fixed.
async fn call(
    pool: &Pool,
    conn: &mut Option<PooledConnection>,
    known: &Known,
    operation: Operation,
) -> Result<(Answer, Option<Structure>)> {
    let conn = match conn {
        Some(conn) => conn,
        None => conn.insert(pool.get().await?),
    };
    let answer = run::run(conn, known, operation).await?;
    let structure = match (operation, &answer) {
        (Operation::Activate(_), Answer::Experiment(active)) => {
            Some((active.id, experiments::list_variants(conn, active.id).await?))
        }
        _ => None,
    };
    Ok((answer, structure))
}
