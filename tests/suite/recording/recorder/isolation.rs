//! Records that the database refuses, among others: they alone fail, and finding them costs few statements.

use crate::recording::recorder::{
    BACKENDS, all_recorded, both_ways, burst, count_statements, database, missing, options, record,
    recorded, said, answered_already, start, statements, unlock,
};
use crate::support::fixtures::{Recorded, active, number, raw, until_blocked};
use diesel_async::AsyncPgConnection;
use model_experiments::recording::Outcome;
use model_experiments::values::VersionId;
use model_experiments::{Error, Recorder};
use std::collections::BTreeSet;

/// Gives `many` records at once, of which those `at` these positions name a version that isn't there; checks what
/// becomes of each, and returns how many statements that took.
async fn statements_for(
    recorder: &Recorder,
    conn: &mut AsyncPgConnection,
    version: VersionId,
    many: usize,
    at: &BTreeSet<usize>,
) -> i64 {
    let given: Vec<_> = (0..many)
        .map(|position| record(if at.contains(&position) { missing() } else { version }))
        .collect();
    let before = recorded(conn).await;
    statements(conn).await;
    for (position, receipt) in burst(recorder, given.clone()).into_iter().enumerate() {
        match answer(receipt).await {
            Ok(outcome) => {
                assert_eq!(outcome, Outcome::Recorded);
                assert!(!at.contains(&position), "{position} of {many}");
            }
            Err(not) => {
                assert!(at.contains(&position), "{position} of {many}: {not}");
                assert!(matches!(not.error, Error::VersionNotFound(_)), "{not}");
                assert_eq!(*not.record, given[position]);
            }
        }
    }
    let counted = statements(conn).await;
    let good = i64::try_from(many - at.len()).unwrap();
    assert_eq!(recorded(conn).await, before.map(|rows| rows + good));
    counted
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
        let most = 2.0 * (many as f64).log2() + 1.0;
        for at in positions {
            let counted =
                statements_for(&recorder, &mut conn, version, many, &BTreeSet::from([at])).await;
            assert!(counted as f64 <= most, "{counted} for {at} of {many}");
        }
    }
}

#[tokio::test]
async fn several_bad_records_are_found() {
    let (db, mut conn, version) = database().await;
    count_statements(&mut conn, "microdollar_usage").await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    let one = |many: usize| 2.0 * (many as f64).log2() + 1.0;
    for (many, at) in [
        (2, vec![0, 1]),
        (3, vec![0, 1, 2]),
        (8, vec![3, 4]),
        (9, vec![0, 8]),
        (100, vec![49, 50]),
        (100, vec![50, 51, 52]),
        (100, vec![0, 33, 66, 99]),
    ] {
        let bad = BTreeSet::from_iter(at);
        let counted = statements_for(&recorder, &mut conn, version, many, &bad).await;
        let most = one(many) * bad.len() as f64;
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
    for options in both_ways() {
        let (db, mut conn, version) = database().await;
        let recorder = start(&db.options(), options).await;
        for choice in 0..1_u32 << MANY {
            let is_bad = |position: usize| choice >> position & 1 == 1;
            let given = (0..MANY)
                .map(|position| record(if is_bad(position) { missing() } else { version }));
            let given: Vec<_> = given.collect();
            for (position, receipt) in burst(&recorder, given.clone()).into_iter().enumerate() {
                assert_eq!(answer(receipt).await.is_err(), is_bad(position), "{choice:b}");
            }
        }
        let requests = recorded(&mut conn).await[1];
        assert_eq!(requests, (1 << MANY) * MANY as i64 / 2);
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
    for receipt in burst(&recorder, given.collect::<Vec<_>>()) {
        failed += usize::from(answer(receipt).await.is_err());
    }
    let counted = statements(&mut conn).await;
    assert!(counted as f64 <= 2.0 * (MANY as f64).log2() + 1.0, "{counted}");
    assert_eq!((failed, recorded(&mut conn).await), (1, [100, 99]));
    let unattributed = "SELECT count(*) AS number FROM microdollar_usage usage WHERE NOT EXISTS
        (SELECT FROM model_experiment_request WHERE usage_id = usage.id)";
    assert_eq!(number(&mut conn, unattributed).await, 1);
}

#[tokio::test]
async fn what_is_left_is_tried_again_when_the_connection_is_lost_amid_the_search() {
    let (db, mut conn, version) = database().await;
    let rule = "ALTER TABLE microdollar_usage ADD CONSTRAINT host_rule CHECK (cost < 1000)";
    raw(&mut conn, rule).await.unwrap();
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    // Whoever refers to this version waits.
    let other = active(&mut conn, "partner/bar").await.control_version.id;
    let mut holder = db.connect().await;
    let held = format!(
        "BEGIN; SELECT FROM model_experiment_variant_version WHERE id = '{other}' FOR UPDATE"
    );
    raw(&mut holder, &held).await.unwrap();

    let mut given = [version, version, version, other].map(record);
    given[2].usage.cost = 1_000;
    let mut receipts = burst(&recorder, given);
    until_blocked(&mut conn).await;
    let [first, second] = [receipts.remove(0), receipts.remove(0)];
    assert_eq!(answered_already([first, second]), vec![Ok(Outcome::Recorded); 2]);
    assert_eq!(recorded(&mut conn).await, Recorded::both(2));
    raw(&mut conn, &format!("SELECT pg_terminate_backend(pid) {BACKENDS}")).await.unwrap();
    unlock(holder).await;
    let bad = answer(receipts.remove(0)).await.unwrap_err();
    assert!(matches!(bad.error, Error::UnknownConstraint { .. }), "{bad}");
    all_recorded(receipts).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(3));
}
