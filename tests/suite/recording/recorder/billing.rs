//! Billing first: no attribution ever delays a usage.

use crate::recording::recorder::{
    BACKENDS, LONG, all_answered, all_recorded, answer, burst, burst_of, costing, database,
    hold_version, limit_costs, lock, missing, record, start, unlock,
};
use crate::support::TestDatabase;
use crate::support::fixtures::{Recorded, active, eventually, number, raw, recorded, request};
use chrono::TimeDelta;
use diesel_async::AsyncPgConnection;
use futures_util::FutureExt;
use model_experiments::recording::{self, Outcome, Record, Usage};
use model_experiments::reports::loss_ledger;
use model_experiments::values::{ExperimentId, Timestamp, UsageId, VersionId};
use model_experiments::{Error, Page, RecorderOptions};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::timeout;

fn billing_first() -> RecorderOptions {
    RecorderOptions::default().billing_first(true)
}

/// The usages of the experiment that the loss ledger lists.
async fn lost(conn: &mut AsyncPgConnection, experiment: ExperimentId) -> Vec<UsageId> {
    let (now, day) = (Timestamp::now(), TimeDelta::days(1));
    let window = now - day..now + day;
    let lost = loss_ledger::list(conn, experiment, &window, Page::first(500)).await.unwrap();
    lost.into_iter().map(|usage| usage.id).collect()
}

/// A database with an experiment on `partner/foo`.
async fn experiment() -> (TestDatabase, AsyncPgConnection, ExperimentId, VersionId) {
    let db = TestDatabase::new().await;
    let mut conn = db.connect().await;
    let active = active(&mut conn, "partner/foo").await;
    (db, conn, active.experiment.id, active.control_version.id)
}

fn billed(version: VersionId) -> Record {
    let usage = Usage { requested_model: Some("partner/foo".to_owned()), ..Usage::new("user-1") };
    Record::new(usage, request(version))
}

#[tokio::test]
async fn a_usage_is_billed_though_its_version_is_missing_and_attributed_later() {
    let (db, mut conn, experiment, version) = experiment().await;
    let recorder = start(&db.options(), billing_first()).await;
    let unknown = missing();
    let bad = billed(unknown);
    let id = bad.usage.id;
    let [good, of_bad] = burst_of(&recorder, [billed(version), bad.clone()]);
    all_recorded([good]).await;
    let not = answer(of_bad).await.unwrap_err();
    let reason = Box::new(Error::VersionNotFound(unknown));
    assert_eq!(not.error, Error::NotAttributed { usage: id, reason });
    assert_eq!(*not.record, bad);
    assert_eq!(recorded(&mut conn).await, Recorded { usages: 2, requests: 1 });

    assert_eq!(lost(&mut conn, experiment).await, [id]);
    let outcome = recording::record::attribute(&mut conn, id, &request(version)).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    assert_eq!(lost(&mut conn, experiment).await, []);
    // Submitting the whole record again has the same effect.
    let receipt = recorder.submit(Record::new(bad.usage, request(version))).await.unwrap();
    assert_eq!(answer(receipt).await, Ok(Outcome::AlreadyRecorded));
}

#[tokio::test]
async fn usages_are_billed_while_nothing_can_be_attributed() {
    const MAX_RECORDS: usize = 10;
    const ROUNDS: usize = 2;
    let (db, mut conn, experiment, version) = experiment().await;
    let recorder =
        start(&db.options(), billing_first().max_batch(MAX_RECORDS).max_records(MAX_RECORDS)).await;
    let holder = lock(&db, "model_experiment_request").await;
    let mut receipts = Vec::new();
    for round in 1..=ROUNDS {
        // Requests of the rounds before are given up to make room.
        for _ in 0..MAX_RECORDS {
            let taken = timeout(LONG, recorder.submit(billed(version))).await;
            receipts.push(taken.expect("there is room").unwrap());
        }
        let usages = (round * MAX_RECORDS) as i64;
        eventually("they are billed", async || {
            recorded(&mut conn).await == Recorded { usages, requests: 0 }
        })
        .await;
    }
    unlock(holder).await;
    let mut failed = Vec::new();
    for receipt in receipts {
        let Err(not) = answer(receipt).await else { continue };
        match not.error {
            Error::NotAttributed { reason, .. } => assert_eq!(*reason, Error::RecorderFull),
            error => panic!("{error:?}"),
        }
        failed.push(*not.record);
    }
    assert!(failed.len() >= (ROUNDS - 1) * MAX_RECORDS, "{}", failed.len());
    let of_failed: BTreeSet<_> = failed.iter().map(|record| record.usage.id).collect();
    // A statement that was given up may have been written after the unlock.
    assert!(lost(&mut conn, experiment).await.iter().all(|id| of_failed.contains(id)));
    for Record { usage, request } in failed {
        assert!(recording::record::attribute(&mut conn, usage.id, &request).await.is_ok());
    }
    assert_eq!(lost(&mut conn, experiment).await, []);
    assert_eq!(recorded(&mut conn).await, Recorded::both((ROUNDS * MAX_RECORDS) as i64));
}

#[tokio::test]
async fn usages_are_billed_while_one_version_is_locked_and_others_are_attributed() {
    let (db, mut conn, version) = database().await;
    let locked = active(&mut conn, "partner/locked").await.control_version.id;
    let recorder = start(&db.options(), billing_first().max_batch(10).max_records(10)).await;
    let holder = hold_version(&db, locked).await;
    let mut of_locked = Vec::new();
    for _ in 0..15 {
        let submitted = timeout(LONG, recorder.submit(record(locked))).await;
        of_locked.push(submitted.expect("there is room").unwrap());
        let submitted = timeout(LONG, recorder.submit(record(version))).await;
        all_recorded([submitted.expect("there is room").unwrap()]).await;
    }
    assert_eq!(recorded(&mut conn).await.requests, 15);
    unlock(holder).await;
    let mut shed = 0;
    for receipt in of_locked {
        let Err(not) = answer(receipt).await else { continue };
        let Error::NotAttributed { reason, .. } = not.error else { panic!("{not}") };
        assert_eq!(*reason, Error::RecorderFull);
        shed += 1;
    }
    assert!(shed >= 5, "{shed}");
    assert_eq!(recorded(&mut conn).await, Recorded { usages: 30, requests: 30 - shed });
}

#[tokio::test]
async fn submit_waits_for_requests_that_are_slower_than_usages() {
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), billing_first().max_batch(8).max_records(16)).await;
    let mut receipts = Vec::new();
    for _ in 0..1_000 {
        receipts.push(recorder.submit(record(version)).await.unwrap());
    }
    all_recorded(receipts).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(1_000));
}

#[tokio::test]
async fn usages_are_billed_while_the_table_of_requests_is_missing() {
    let (db, mut conn, version) = database().await;
    raw(&mut conn, "ALTER TABLE model_experiment_request RENAME TO elsewhere").await.unwrap();
    let recorder = start(&db.options(), billing_first()).await;
    let receipts = burst(&recorder, [(); 3].map(|()| record(version)));
    let billed = "SELECT count(*) AS number FROM microdollar_usage";
    eventually("they are billed", async || number(&mut conn, billed).await == 3).await;
    raw(&mut conn, "ALTER TABLE elsewhere RENAME TO model_experiment_request").await.unwrap();
    all_recorded(receipts).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(3));
}

#[tokio::test]
async fn a_usage_is_billed_whatever_id_the_client_gives_its_request() {
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), billing_first()).await;
    for id in ["x".repeat(2_049), "\0".to_owned(), "x".repeat(8 << 20)] {
        let request = request(version).client_request_id(id);
        let given = Record::new(Usage::new("user-1"), request);
        let receipt = recorder.try_submit(given).unwrap();
        match answer(receipt).await.unwrap_err().error {
            Error::NotAttributed { reason, .. } => {
                assert!(matches!(*reason, Error::Invalid(_)), "{reason}");
            }
            error => panic!("{error:?}"),
        }
    }
    assert_eq!(recorded(&mut conn).await, Recorded { usages: 3, requests: 0 });
}

#[tokio::test]
async fn a_usage_that_is_wrong_is_neither_billed_nor_attributed() {
    let (db, mut conn, version) = database().await;
    limit_costs(&mut conn).await;
    let recorder = start(&db.options(), billing_first()).await;
    let receipt = recorder.try_submit(costing(1_000, version)).unwrap();
    let not = answer(receipt).await.unwrap_err();
    assert!(matches!(not.error, Error::UnknownConstraint { .. }), "{not}");
    assert_eq!(recorded(&mut conn).await, Recorded::NONE);
}

#[tokio::test]
async fn records_that_are_not_attributed_at_the_deadline_come_back() {
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), billing_first().max_batch(2)).await;
    let holder = lock(&db, "model_experiment_request").await;
    let given = [(); 6].map(|()| record(version));
    let receipts = burst(&recorder, given.clone());
    eventually("they are billed", async || {
        recorded(&mut conn).await == Recorded { usages: 6, requests: 0 }
    })
    .await;
    let mut left = recorder.shutdown(Duration::from_millis(20)).await;
    left.sort_by_key(|not| not.record.usage.id);
    let mut expected = all_answered(receipts);
    expected.sort_by_key(|answer| answer.as_ref().unwrap_err().record.usage.id);
    assert_eq!(left.iter().cloned().map(Err).collect::<Vec<_>>(), expected);
    assert_eq!(left.len(), given.len());
    for not in left {
        let reason = Box::new(Error::RecorderClosed);
        assert_eq!(not.error, Error::NotAttributed { usage: not.record.usage.id, reason });
    }
    unlock(holder).await;
}

#[tokio::test]
async fn an_attribution_whose_time_is_over_comes_back() {
    let (db, mut conn, version) = database().await;
    let recorder =
        start(&db.options(), billing_first().retry_for(Duration::from_millis(200))).await;
    let holder = lock(&db, "model_experiment_request").await;
    let given = record(version);
    let mut receipt = recorder.try_submit(given.clone()).unwrap();
    let end = format!("SELECT pg_terminate_backend(pid) {BACKENDS} AND wait_event_type = 'Lock'");
    let mut answer = None;
    eventually("its time is over", async || {
        raw(&mut conn, &end).await.unwrap();
        answer = (&mut receipt).now_or_never();
        answer.is_some()
    })
    .await;
    let not = answer.unwrap().unwrap_err();
    match &not.error {
        Error::NotAttributed { usage, reason } => {
            assert_eq!(*usage, given.usage.id);
            assert!(reason.is_retryable(), "{reason}");
        }
        error => panic!("{error:?}"),
    }
    assert_eq!((*not.record, recorder.len()), (given, 0));
    unlock(holder).await;
    assert_eq!(recorded(&mut conn).await, Recorded { usages: 1, requests: 0 });
}
