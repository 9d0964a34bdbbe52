//! Records that the database refuses: only they fail, and finding them takes few statements.

use crate::recording::recorder::{
    BACKENDS, all_recorded, answer, answered, both_modes, burst, burst_of, costing,
    count_statements, database, hold_version, limit_costs, missing, record, start, statements,
    unlock,
};
use crate::support::fixtures::{Recorded, active, number, raw, recorded, until_blocked};
use diesel_async::AsyncPgConnection;
use model_experiments::recording::Outcome;
use model_experiments::values::VersionId;
use model_experiments::{Error, Recorder, RecorderOptions};
use std::collections::BTreeSet;

/// Submits `many` records at once. Those at the positions `bad` name a version that doesn't exist.
/// Checks the answer to each, and returns how many statements were run.
async fn statements_for(
    recorder: &Recorder,
    conn: &mut AsyncPgConnection,
    version: VersionId,
    many: usize,
    bad: &BTreeSet<usize>,
) -> i64 {
    let given: Vec<_> = (0..many)
        .map(|position| record(if bad.contains(&position) { missing() } else { version }))
        .collect();
    let before = recorded(conn).await;
    statements(conn).await;
    for (position, receipt) in burst(recorder, given.clone()).into_iter().enumerate() {
        match answer(receipt).await {
            Ok(outcome) => {
                assert_eq!(outcome, Outcome::Recorded);
                assert!(!bad.contains(&position), "{position} of {many}");
            }
            Err(not) => {
                assert!(bad.contains(&position), "{position} of {many}: {not}");
                assert!(matches!(not.error, Error::VersionNotFound(_)), "{not}");
                assert_eq!(*not.record, given[position]);
            }
        }
    }
    let counted = statements(conn).await;
    let good = i64::try_from(many - bad.len()).unwrap();
    let expected = Recorded { usages: before.usages + good, requests: before.requests + good };
    assert_eq!(recorded(conn).await, expected);
    counted
}

/// The most statements that finding one bad record of `many` takes.
fn most_statements(many: usize) -> f64 {
    2.0 * (many as f64).log2() + 1.0
}

#[tokio::test]
async fn one_bad_record_of_many_is_found_by_few_statements() {
    let (db, mut conn, version) = database().await;
    count_statements(&mut conn, "microdollar_usage").await;
    let recorder = start(&db.options(), RecorderOptions::default().max_batch(2_000)).await;
    for many in [1, 2, 3, 5, 8, 100, 2_000_usize] {
        let positions = match many {
            ..=8 => (0..many).collect(),
            _ => BTreeSet::from([0, many / 3, many / 2 - 1, many / 2, many - 1]),
        };
        for position in positions {
            let bad = BTreeSet::from([position]);
            let counted = statements_for(&recorder, &mut conn, version, many, &bad).await;
            let most = most_statements(many);
            assert!(counted as f64 <= most, "{counted} for {position} of {many}");
        }
    }
}

#[tokio::test]
async fn several_bad_records_are_found() {
    let (db, mut conn, version) = database().await;
    count_statements(&mut conn, "microdollar_usage").await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    for (many, bad) in [
        (2, vec![0, 1]),
        (3, vec![0, 1, 2]),
        (8, vec![3, 4]),
        (9, vec![0, 8]),
        (100, vec![49, 50]),
        (100, vec![50, 51, 52]),
        (100, vec![0, 33, 66, 99]),
    ] {
        let bad = BTreeSet::from_iter(bad);
        let counted = statements_for(&recorder, &mut conn, version, many, &bad).await;
        let most = most_statements(many) * bad.len() as f64;
        assert!(counted as f64 <= most, "{counted} for {bad:?} of {many}");
    }
    for many in [1, 2, 3, 7, 64] {
        let all = (0..many).collect();
        let counted = statements_for(&recorder, &mut conn, version, many, &all).await;
        assert!(counted < 2 * many as i64, "{counted} for all of {many}");
    }
}

#[tokio::test]
async fn every_choice_of_bad_records_is_found() {
    const MANY: usize = 5;
    for options in both_modes() {
        let (db, mut conn, version) = database().await;
        let recorder = start(&db.options(), options).await;
        for choice in 0..1_u32 << MANY {
            let is_bad = |position: usize| choice >> position & 1 == 1;
            let given = (0..MANY)
                .map(|position| record(if is_bad(position) { missing() } else { version }));
            for (position, receipt) in burst(&recorder, given).into_iter().enumerate() {
                assert_eq!(answer(receipt).await.is_err(), is_bad(position), "{choice:b}");
            }
        }
        // Each of them was good in half of the choices.
        assert_eq!(recorded(&mut conn).await.requests, (1 << MANY) * MANY as i64 / 2);
    }
}

#[tokio::test]
async fn an_attribution_that_is_bad_is_found_by_few_statements_too() {
    const MANY: usize = 100;
    let (db, mut conn, version) = database().await;
    count_statements(&mut conn, "model_experiment_request").await;
    let recorder = start(&db.options(), RecorderOptions::default().billing_first(true)).await;
    let given = (0..MANY).map(|at| record(if at == 70 { missing() } else { version }));
    let mut failed = 0;
    for receipt in burst(&recorder, given) {
        failed += usize::from(answer(receipt).await.is_err());
    }
    let counted = statements(&mut conn).await;
    assert!(counted as f64 <= most_statements(MANY), "{counted}");
    assert_eq!(failed, 1);
    assert_eq!(recorded(&mut conn).await, Recorded { usages: 100, requests: 99 });
    let unattributed = "SELECT count(*) AS number FROM microdollar_usage usage WHERE NOT EXISTS
        (SELECT FROM model_experiment_request WHERE usage_id = usage.id)";
    assert_eq!(number(&mut conn, unattributed).await, 1);
}

#[tokio::test]
async fn the_rest_is_retried_when_the_connection_is_lost_during_the_search() {
    let (db, mut conn, version) = database().await;
    limit_costs(&mut conn).await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    let other = active(&mut conn, "partner/bar").await.control_version.id;
    let holder = hold_version(&db, other).await;

    let given = [record(version), record(version), costing(1_000, version), record(other)];
    let [first, second, of_costly, of_held] = burst_of(&recorder, given);
    until_blocked(&mut conn).await;
    assert_eq!([answered(first), answered(second)], [const { Ok(Outcome::Recorded) }; 2]);
    assert_eq!(recorded(&mut conn).await, Recorded::both(2));
    raw(&mut conn, &format!("SELECT pg_terminate_backend(pid) {BACKENDS}")).await.unwrap();
    unlock(holder).await;
    let bad = answer(of_costly).await.unwrap_err();
    assert!(matches!(bad.error, Error::UnknownConstraint { .. }), "{bad}");
    all_recorded([of_held]).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(3));
}
