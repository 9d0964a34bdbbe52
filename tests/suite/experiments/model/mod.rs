//! Random sequences of operations, run against the database and against a small model of the rules
//! in memory: each answer and each refusal must be the same.

pub mod answer;
pub mod known;
pub mod operations;
pub mod rules;
pub mod run;
pub mod strategy;

use crate::experiments::model::answer::Answer;
use crate::experiments::model::known::Known;
use crate::experiments::model::operations::{Operation, REFUSALS, refusal};
use crate::experiments::model::rules::Model;
use crate::random;
use crate::support::TestDatabase;
use crate::support::fixtures::instant;
use diesel_async::AsyncPgConnection;
use model_experiments::Error;
use model_experiments::values::Timestamp;
use proptest::strategy::Strategy;
use proptest::test_runner::{TestCaseError, TestError};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write;

/// How many operations are run.
const OPERATIONS: usize = 10_000;

/// The most operations that are run until each outcome in [`REFUSALS`] was met.
const MOST_OPERATIONS: usize = 50_000;

/// How often each operation must have been done, rather than refused.
const SUCCESSES: usize = 20;

/// How often each operation had each outcome.
pub type Seen = BTreeMap<(&'static str, String), usize>;

#[test]
fn every_sequence_of_operations_is_answered_as_the_rules_say() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let db = runtime.block_on(TestDatabase::new());
    let conn = RefCell::new(runtime.block_on(db.connect()));
    let (seen, cases) = (RefCell::new(Seen::new()), Cell::new(0));
    let mut runner = random::runner();
    let run = |operations: Vec<Operation>| {
        cases.set(cases.get() + 1);
        let conn = &mut conn.borrow_mut();
        runtime.block_on(run_case(conn, cases.get(), operations, &mut seen.borrow_mut()))
    };
    loop {
        let case = strategy::sequence().new_tree(&mut runner).unwrap();
        match runner.run_one(case, run) {
            Ok(_) => {}
            Err(TestError::Fail(why, operations)) => {
                let (why, operations) = shortened(why.to_string(), operations, run);
                panic!("{why}\nin the sequence{}", numbered(&operations));
            }
            Err(aborted) => panic!("{aborted}"),
        }
        let (count, unseen) = (seen.borrow().values().sum::<usize>(), unseen(&seen.borrow()));
        if count >= OPERATIONS && unseen.is_empty() {
            break;
        }
        assert!(count < MOST_OPERATIONS, "{unseen:#?} in {count} operations: {seen:?}");
    }
}

async fn run_case(
    conn: &mut AsyncPgConnection,
    case: usize,
    operations: Vec<Operation>,
    seen: &mut Seen,
) -> Result<(), TestCaseError> {
    let start = clock(conn).await;
    let (mut known, mut model) = (Known::new(start, case), Model::new(start));
    for (number, operation) in operations.into_iter().enumerate() {
        let (name, _) = operation.documented();
        let end = step(conn, &mut known, &mut model, operation).await.map_err(|why| {
            TestCaseError::fail(format!("at {}. {operation:?}:{why}", number + 1))
        })?;
        *seen.entry((name, end)).or_default() += 1;
    }
    for operation in everything(&known) {
        step(conn, &mut known, &mut model, operation)
            .await
            .map_err(|why| TestCaseError::fail(format!("at the end, {operation:?}:{why}")))?;
    }
    Ok(())
}

/// Runs one operation and returns its outcome. Fails where the model disagrees.
async fn step(
    conn: &mut AsyncPgConnection,
    known: &mut Known,
    model: &mut Model,
    operation: Operation,
) -> Result<String, String> {
    let told = run::run(conn, known, operation).await;
    let expected = model.expect(known, operation, &told);
    if told != expected {
        return Err(format!("\nexpected {expected:?}\n     got {told:?}"));
    }
    let is_told_now = matches!(told, Ok(Answer::Version(_)) | Err(Error::Backdated { .. }));
    if is_told_now && model.now > clock(conn).await {
        return Err(format!(" the database's clock isn't at {} yet", model.now));
    }
    known.latest = model.now;
    Ok(match &told {
        Ok(answer) => {
            known.learn(answer);
            if answer.has_content() { "done".to_owned() } else { "nothing".to_owned() }
        }
        Err(error) => refusal(error),
    })
}

/// Operations that read everything.
fn everything(known: &Known) -> Vec<Operation> {
    let overview = |experiment| Operation::FindOverview { experiment };
    let history = |variant| Operation::ReadHistory { variant, page: 100 };
    (0..known.experiments.len())
        .map(overview)
        .chain((0..known.variants.len()).map(history))
        .chain((0..known.usages.len()).map(Operation::FindUsage))
        .collect()
}

/// The outcomes that must be met and weren't. A run with refusals only would prove little.
fn unseen(seen: &Seen) -> Vec<String> {
    let count = |name, end: &str| seen.get(&(name, end.to_owned())).copied().unwrap_or_default();
    let mut unseen = Vec::new();
    for (name, refusals) in REFUSALS {
        if count(name, "done") < SUCCESSES {
            unseen.push(format!("{name} was done {} times", count(name, "done")));
        }
        let never = refusals.iter().filter(|refusal| count(name, refusal) == 0);
        unseen.extend(never.map(|refusal| format!("{name} was never refused by {refusal}")));
    }
    unseen
}

/// Leaves out operations that aren't needed for the failure after the numbers were shrunk.
fn shortened(
    mut why: String,
    mut operations: Vec<Operation>,
    run: impl Fn(Vec<Operation>) -> Result<(), TestCaseError>,
) -> (String, Vec<Operation>) {
    for at in (0..operations.len()).rev() {
        let mut fewer = operations.clone();
        fewer.remove(at);
        if let Err(TestCaseError::Fail(still)) = run(fewer.clone()) {
            (why, operations) = (still.to_string(), fewer);
        }
    }
    (why, operations)
}

fn numbered(operations: &[Operation]) -> String {
    let mut text = String::new();
    for (number, operation) in operations.iter().enumerate() {
        write!(text, "\n{:4}. {operation:?}", number + 1).unwrap();
    }
    text
}

async fn clock(conn: &mut AsyncPgConnection) -> Timestamp {
    instant(conn, "clock_timestamp()").await
}
