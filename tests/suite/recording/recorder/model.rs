//! Callers who record the same few usages at once through two recorders: each answer agrees with
//! what is stored.

use crate::random;
use crate::recording::recorder::{LONG, answer, database, missing, start};
use crate::support::fixtures::{number, request};
use diesel_async::AsyncPgConnection;
use model_experiments::recording::{self, Outcome, Record, Usage};
use model_experiments::values::VersionId;
use model_experiments::{Error, RecorderOptions, Result};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::{BTreeMap, BTreeSet};

const CALLERS: usize = 16;

/// How many records each caller submits.
const EACH: usize = 60;

/// How many different usages there are.
const USAGES: usize = 200;

/// What a caller submits: one of the usages at a cost, with a version that exists or doesn't.
#[derive(Debug, Clone, Copy)]
struct Given {
    usage: usize,
    cost: i64,
    has_version: bool,
}

fn given() -> impl Strategy<Value = Given> {
    let cost = prop_oneof![6 => Just(1), 1 => Just(2)];
    (0..USAGES, cost, prop::bool::weighted(0.95)).prop_map(|(usage, cost, has_version)| Given {
        usage,
        cost,
        has_version,
    })
}

/// What was submitted of a usage, and how it was answered.
#[derive(Debug)]
struct Answered {
    given: Given,
    end: Result<Outcome>,
}

/// Checks that the answers about a usage agree with what is stored. Returns the kinds of answers.
async fn check(
    conn: &mut AsyncPgConnection,
    usage: &Usage,
    version: VersionId,
    is_billing_first: bool,
    answers: &[Answered],
) -> BTreeSet<&'static str> {
    let stored = recording::find_usage(conn, usage.id).await.unwrap();
    let request = recording::find_request(conn, usage.id).await.unwrap();
    assert!(request.is_none() || stored.is_some(), "{answers:?}");
    assert!(is_billing_first || request.is_some() == stored.is_some(), "{answers:?}");
    if let Some(request) = &request {
        assert_eq!(request.variant_version_id, version);
    }
    let recorded = answers.iter().filter(|of| of.end == Ok(Outcome::Recorded)).count();
    assert_eq!(recorded, usize::from(request.is_some()), "{answers:?}");
    let mut ends = BTreeSet::new();
    for Answered { given, end } in answers {
        let is_same = stored.as_ref().is_some_and(|stored| stored.cost == given.cost);
        let is_as_it_should = match end {
            Ok(outcome) => {
                ends.insert(if *outcome == Outcome::Recorded { "recorded" } else { "already" });
                is_same && given.has_version
            }
            Err(Error::RecordedDifferently { columns, .. }) => {
                ends.insert("differently");
                columns.contains(&"cost") != is_same
                    && columns.contains(&"variant_version_id")
                        == (!given.has_version && request.is_some() && !is_billing_first)
            }
            Err(Error::VersionNotFound(_)) => {
                ends.insert("no version");
                !given.has_version && !is_billing_first
            }
            Err(Error::NotAttributed { reason, .. }) => {
                ends.insert("not attributed");
                let is_known = matches!(
                    **reason,
                    Error::VersionNotFound(_) | Error::RecordedDifferently { .. }
                );
                is_known && is_same && !given.has_version && is_billing_first
            }
            Err(_) => false,
        };
        assert!(
            is_as_it_should,
            "{given:?}: {end:?}, of {stored:?} and {request:?} in {answers:?}"
        );
    }
    // A record that can be recorded, and was submitted, is stored.
    if stored.is_none() {
        assert!(answers.iter().all(|of| !of.given.has_version), "{answers:?}");
    }
    ends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_agrees_with_what_is_stored() {
    let mut runner = random::runner();
    for is_billing_first in [false, true] {
        let (db, mut conn, version) = database().await;
        // With billing first there is room for all, so that no request is given up for usages.
        let max_records = if is_billing_first { CALLERS * EACH } else { 64 };
        let options = RecorderOptions::default()
            .billing_first(is_billing_first)
            .writers(2)
            .max_batch(16)
            .max_records(max_records);
        let recorders =
            [start(&db.options(), options.clone()).await, start(&db.options(), options).await];
        let usages: Vec<_> = (0..USAGES).map(|_| Usage::new("user-1")).collect();
        let plan = vec(vec(given(), EACH), CALLERS).new_tree(&mut runner).unwrap().current();
        let callers = plan.into_iter().enumerate().map(|(caller, plan)| {
            let (recorder, usages) = (recorders[caller % 2].clone(), usages.clone());
            tokio::spawn(async move {
                let mut receipts = Vec::new();
                for given in plan {
                    let version = if given.has_version { version } else { missing() };
                    let usage = Usage { cost: given.cost, ..usages[given.usage].clone() };
                    let record = Record::new(usage, request(version));
                    receipts.push((given, recorder.submit(record).await.unwrap()));
                }
                let mut ends = Vec::new();
                for (given, receipt) in receipts {
                    let end = answer(receipt).await.map_err(Error::from);
                    ends.push(Answered { given, end });
                }
                ends
            })
        });
        let mut by_usage = BTreeMap::<usize, Vec<Answered>>::new();
        for caller in callers.collect::<Vec<_>>() {
            for answered in caller.await.unwrap() {
                by_usage.entry(answered.given.usage).or_default().push(answered);
            }
        }
        for recorder in recorders {
            assert_eq!(recorder.shutdown(LONG).await, []);
        }

        let mut ends = BTreeSet::new();
        for (usage, answers) in &by_usage {
            let usage = &usages[*usage];
            ends.extend(check(&mut conn, usage, version, is_billing_first, answers).await);
        }
        let no_version = if is_billing_first { "not attributed" } else { "no version" };
        let every = ["recorded", "already", "differently", no_version];
        assert_eq!(ends, every.into());
        assert!(by_usage.len() > USAGES / 2);
        let others = "SELECT count(*) AS number FROM microdollar_usage";
        assert!(number(&mut conn, others).await <= by_usage.len() as i64);
    }
}
