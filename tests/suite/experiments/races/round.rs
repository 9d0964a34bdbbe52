//! A round: callers who begin at once, and their answers.

use crate::experiments::races::acknowledged::{Acknowledged, Structure};
use model_experiments::error::Transient;
use model_experiments::values::Timestamp;
use model_experiments::{Error, Pool, PooledConnection, Result, experiments};
use std::mem;
use std::sync::{Arc, Mutex};
use tokio::sync::Barrier;

use crate::experiments::model::answer::Answer;
use crate::experiments::model::known::Known;
use crate::experiments::model::operations::{Operation, refusal};
use crate::experiments::model::{Seen, run};
use crate::support::fixtures::cancelled_after;

/// The outcome on a connection that a cancelled operation left inside a transaction.
pub const TAKE_ANOTHER: &str = "take another connection";

/// An operation, and the number of polls after which it is cancelled.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    pub operation: Operation,
    pub polls: usize,
}

/// What one caller does, one operation after the other.
pub type CallerPlan = Vec<Planned>;

/// What the callers of a round share.
pub struct Round {
    pool: Pool,
    begin: Barrier,
    known: Mutex<Known>,
    acknowledged: Mutex<Acknowledged>,
}

impl Round {
    /// A round with three drafts that can be activated, on two public model ids.
    pub async fn new(pool: &Pool, callers: usize, number: usize) -> Self {
        let now = Timestamp::now();
        let round = Self {
            pool: pool.clone(),
            begin: Barrier::new(callers),
            known: Mutex::new(Known::new(now, number)),
            acknowledged: Mutex::default(),
        };
        for experiment in 0..3 {
            let create = Operation::Create { model: experiment, name: "foo" };
            let insert = |label| Operation::AddVariant { experiment, label, weight: 1 };
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

    /// Runs all callers at once, and counts the outcomes.
    pub async fn run(self: &Arc<Self>, plan: Vec<CallerPlan>, seen: &mut Seen) {
        let caller = |planned: CallerPlan| {
            let round = Arc::clone(self);
            tokio::spawn(async move {
                round.begin.wait().await;
                let (mut conn, mut ends) = (None, Vec::new());
                for Planned { operation, polls } in planned {
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

    /// The answers since the last call.
    pub fn acknowledged(&self) -> Acknowledged {
        mem::take(&mut self.acknowledged.lock().unwrap())
    }

    /// Runs an operation unless it is cancelled before, keeps its answer, and returns its outcome.
    ///
    /// It runs on the connection whose last operation was cancelled, if there is one, as a caller
    /// might use it by mistake. Otherwise it takes one from the pool.
    async fn attempt(
        &self,
        conn: &mut Option<PooledConnection>,
        operation: Operation,
        polls: usize,
    ) -> String {
        let known = self.known.lock().unwrap().clone();
        // The host's own insertion isn't refused on such a connection.
        if matches!(operation, Operation::InsertUsage { .. }) {
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

/// The answer, and after an activation the experiment's structure, which is fixed from then on.
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
