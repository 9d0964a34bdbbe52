//! Many who record the same few usages at once through two recorders: what each is told agrees with what is there.

use crate::recording::recorder::{LONG, database, missing, options, said, start};
use crate::random;
use crate::support::fixtures::{number, request};
use diesel_async::AsyncPgConnection;
use model_experiments::recording::{self, Outcome, Record, Usage};
use model_experiments::values::VersionId;
use model_experiments::{Error, Result};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::{BTreeMap, BTreeSet};

const CALLERS: usize = 16;

/// How many records each caller gives.
const EACH: usize = 60;

/// How many different usages there are.
const USAGES: usize = 200;

/// What a caller gives: one of the usages, at a price, with a version that is there or isn't.
#[derive(Debug, Clone, Copy)]
struct Given {
    usage: usize,
    cost: i64,
    is_version_there: bool,
}

fn given() -> impl Strategy<Value = Given> {
    let cost = prop_oneof![6 => Just(1), 1 => Just(2)];
    (0..USAGES, cost, prop::bool::weighted(0.95))
        .prop_map(|(usage, cost, is_version_there)| Given { usage, cost, is_version_there })
}

/// What was said of a usage: to whom, and what.
type Said = Vec<(Given, Result<Outcome>)>;

/// Whether what was said of a usage agrees with what is there, and tells how each was answered.
async fn check(
    conn: &mut AsyncPgConnection,
    usage: &Usage,
    version: VersionId,
    is_billing_first: bool,
    said: &Said,
) -> BTreeSet<&'static str> {
    let stored = recording::find_usage(conn, usage.id).await.unwrap();
    let request = recording::find_request(conn, usage.id).await.unwrap();
    assert!(request.is_none() || stored.is_some(), "{said:?}");
    assert!(is_billing_first || request.is_some() == stored.is_some(), "{said:?}");
    if let Some(request) = &request {
        assert_eq!(request.variant_version_id, version);
    }
    let recorded = said.iter().filter(|(_, end)| *end == Ok(Outcome::Recorded)).count();
    assert_eq!(recorded, usize::from(request.is_some()), "{said:?}");
    let mut ends = BTreeSet::new();
    for (given, end) in said {
        let is_same = stored.as_ref().is_some_and(|stored| stored.cost == given.cost);
        let is_as_it_should = match end {
            Ok(outcome) => {
                ends.insert(if *outcome == Outcome::Recorded { "recorded" } else { "already" });
                is_same && given.is_version_there
            }
            Err(Error::RecordedDifferently { columns, .. }) => {
                ends.insert("differently");
                columns.contains(&"cost") != is_same
                    && columns.contains(&"variant_version_id")
                        == (!given.is_version_there && request.is_some() && !is_billing_first)
            }
            Err(Error::VersionNotFound(_)) => {
                ends.insert("no version");
                !given.is_version_there && !is_billing_first
            }
            Err(Error::NotAttributed { reason, .. }) => {
                ends.insert("not attributed");
                let is_known = matches!(
                    **reason,
                    Error::VersionNotFound(_) | Error::RecordedDifferently { .. }
                );
                is_known && is_same && !given.is_version_there && is_billing_first
            }
            Err(_) => false,
        };
        assert!(is_as_it_should, "{given:?}: {end:?}, of {stored:?} and {request:?} in {said:?}");
    }
    // What can be recorded, and was given, is there.
    if stored.is_none() {
        assert!(said.iter().all(|(given, _)| !given.is_version_there), "{said:?}");
    }
    ends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_everybody_is_told_agrees_with_what_is_there() {
    let mut runner = random::runner();
    for is_billing_first in [false, true] {
        let (db, mut conn, version) = database().await;
        // Where billing comes first, room is never scarce: no request makes way for usages.
        let max_records = if is_billing_first { CALLERS * EACH } else { 64 };
        let options = RecorderOptions::default()
            .billing_first(is_billing_first)
            .writers(2)
            .max_batch(16)
            .max_records(max_records);
        let recorders = [start(&db.options(), options.clone()).await, start(&db.options(), options).await];
        let usages: Vec<_> = (0..USAGES).map(|_| Usage::new("user-1")).collect();
        let plan = vec(vec(given(), EACH), CALLERS).new_tree(&mut runner).unwrap().current();
        let callers = plan.into_iter().enumerate().map(|(caller, plan)| {
            let (recorder, usages) = (recorders[caller % 2].clone(), usages.clone());
            tokio::spawn(async move {
                let mut receipts = Vec::new();
                for given in plan {
                    let version = if given.is_version_there { version } else { missing() };
                    let usage = Usage { cost: given.cost, ..usages[given.usage].clone() };
                    let record = Record::new(usage, request(version));
                    receipts.push((given, recorder.submit(record).await.unwrap()));
                }
                let mut ends = Vec::new();
                for (given, receipt) in receipts {
                    ends.push((given, answer(receipt).await.map_err(Error::from)));
                }
                ends
            })
        });
        let mut by_usage = BTreeMap::<usize, Said>::new();
        for caller in callers.collect::<Vec<_>>() {
            for (given, end) in caller.await.unwrap() {
                by_usage.entry(given.usage).or_default().push((given, end));
            }
        }
        for recorder in recorders {
            assert_eq!(recorder.shutdown(LONG).await, []);
        }

        let mut ends = BTreeSet::new();
        for (usage, said) in &by_usage {
            ends.extend(check(&mut conn, &usages[*usage], version, is_billing_first, said).await);
        }
        let no_version = if is_billing_first { "not attributed" } else { "no version" };
        let every = ["recorded", "already", "differently", no_version];
        assert_eq!(ends, every.into());
        assert!(by_usage.len() > USAGES / 2);
        let others = "SELECT count(*) AS number FROM microdollar_usage";
        assert!(number(&mut conn, others).await <= by_usage.len() as i64);
    }
}
