//! The answer of a receipt.

use crate::recording::recorder::{
    all_recorded, answer, both_modes, burst, burst_of, costing, database, limit_costs, lock,
    missing, record, start, unlock,
};
use crate::support::fixtures::{Recorded, recorded, until_blocked, until_many_blocked};
use futures_util::FutureExt;
use model_experiments::recording::{self, Outcome, Record, Usage};
use model_experiments::{Error, RecorderOptions};

#[tokio::test]
async fn a_record_is_committed_when_its_receipt_is_answered() {
    for options in both_modes() {
        let (db, mut conn, version) = database().await;
        let recorder = start(&db.options(), options).await;
        for _ in 0..20 {
            let record = record(version);
            let receipt = recorder.submit(record.clone()).await.unwrap();
            assert_eq!(answer(receipt).await, Ok(Outcome::Recorded));
            let id = record.usage.id;
            assert_eq!(recording::find_usage(&mut conn, id).await, Ok(Some(record.usage)));
            let request = recording::find_request(&mut conn, id).await.unwrap().unwrap();
            assert_eq!(request.variant_version_id, version);
        }
    }
}

#[tokio::test]
async fn no_receipt_is_answered_before_its_record_is_committed() {
    for options in both_modes() {
        let (db, mut conn, version) = database().await;
        let recorder = start(&db.options(), options).await;
        let holder = lock(&db, "model_experiment_request").await;
        let mut receipts = burst(&recorder, [record(version), record(version)]);
        until_blocked(&mut conn).await;
        assert!(receipts.iter_mut().all(|receipt| receipt.now_or_never().is_none()));
        assert_eq!(recorder.len(), 2);
        unlock(holder).await;
        all_recorded(receipts).await;
        assert_eq!(recorded(&mut conn).await, Recorded::both(2));
    }
}

#[tokio::test]
async fn a_repeated_record_is_recorded_once() {
    for options in both_modes() {
        let (db, mut conn, version) = database().await;
        let recorders =
            [start(&db.options(), options.clone()).await, start(&db.options(), options).await];
        let record = record(version);
        let [recorder, _] = &recorders;
        let [first, again] = burst_of(recorder, [record.clone(), record.clone()]);
        assert_eq!(answer(first).await, Ok(Outcome::Recorded));
        assert_eq!(answer(again).await, Ok(Outcome::AlreadyRecorded));
        for recorder in &recorders {
            let receipt = recorder.submit(record.clone()).await.unwrap();
            assert_eq!(answer(receipt).await, Ok(Outcome::AlreadyRecorded));
        }
        assert_eq!(recorded(&mut conn).await, Recorded::both(1));
    }
}

#[tokio::test]
async fn one_of_two_recorders_records_a_record_that_both_got() {
    let (db, mut conn, version) = database().await;
    let recorders = [
        start(&db.options(), RecorderOptions::default()).await,
        start(&db.options(), RecorderOptions::default()).await,
    ];
    let holder = lock(&db, "microdollar_usage").await;
    let record = record(version);
    let receipts = recorders.each_ref().map(|it| it.try_submit(record.clone()).unwrap());
    until_many_blocked(&mut conn, 2).await;
    unlock(holder).await;
    let mut outcomes = Vec::new();
    for receipt in receipts {
        outcomes.push(answer(receipt).await.unwrap());
    }
    outcomes.sort_by_key(|outcome| *outcome == Outcome::AlreadyRecorded);
    assert_eq!(outcomes, [Outcome::Recorded, Outcome::AlreadyRecorded]);
    assert_eq!(recorded(&mut conn).await, Recorded::both(1));
}

#[tokio::test]
async fn other_content_under_the_same_id_is_named_by_column() {
    for is_billing_first in [false, true] {
        let options = RecorderOptions::default().billing_first(is_billing_first);
        let (db, mut conn, version) = database().await;
        let recorder = start(&db.options(), options).await;
        let record = record(version);
        let id = record.usage.id;
        let costlier = Usage { cost: 7, has_error: true, ..record.usage.clone() };
        let other_usage = Record::new(costlier, record.request.clone());
        let named = record.request.clone().client_request_id("client-1");
        let other_request = Record::new(record.usage.clone(), named);
        let differently = |columns: &[&'static str]| Error::RecordedDifferently {
            usage: id,
            columns: columns.to_vec(),
        };
        // In the statement that records the first, and in a later one.
        for first in [Outcome::Recorded, Outcome::AlreadyRecorded] {
            let given = [record.clone(), other_usage.clone(), other_request.clone()];
            let [of_record, of_usage, of_request] = burst_of(&recorder, given);
            assert_eq!(answer(of_record).await, Ok(first));
            let not = answer(of_usage).await.unwrap_err();
            assert_eq!(*not.record, other_usage);
            assert_eq!(not.error, differently(&["cost", "has_error"]));
            let not = answer(of_request).await.unwrap_err();
            assert_eq!(*not.record, other_request);
            let reason = differently(&["client_request_id"]);
            if is_billing_first {
                let reason = Box::new(reason);
                assert_eq!(not.error, Error::NotAttributed { usage: id, reason });
            } else {
                assert_eq!(not.error, reason);
            }
        }
        assert_eq!(recording::find_usage(&mut conn, id).await, Ok(Some(record.usage)));
        assert_eq!(recorded(&mut conn).await, Recorded::both(1));
    }
}

#[tokio::test]
async fn a_version_that_does_not_exist_is_named() {
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    let versions = [missing(), version, missing()];
    let given = versions.map(record);
    let receipts = burst_of(&recorder, given.clone());
    for ((receipt, record), of_record) in receipts.into_iter().zip(given).zip(versions) {
        match answer(receipt).await {
            Ok(outcome) => assert_eq!((outcome, of_record), (Outcome::Recorded, version)),
            Err(not) => {
                assert_ne!(of_record, version);
                assert_eq!(*not.record, record);
                assert_eq!(not.error, Error::VersionNotFound(of_record));
            }
        }
    }
    assert_eq!(recorded(&mut conn).await, Recorded::both(1));
}

#[tokio::test]
async fn bad_values_are_refused_at_once() {
    for (is_billing_first, options) in [false, true].into_iter().zip(both_modes()) {
        let (db, mut conn, version) = database().await;
        let recorder = start(&db.options(), options).await;
        let of = |usage| Record::new(usage, record(version).request);
        let some = |text: &str| Some(text.to_owned());
        let named = record(version).request.client_request_id("\0");
        for (field, bad) in [
            ("kilo_user_id", of(Usage::new("\0"))),
            ("kilo_user_id", of(Usage::new("x".repeat(2_049)))),
            ("model", of(Usage { model: some("a\0b"), ..Usage::new("user-1") })),
            ("project_id", of(Usage { project_id: some(&"x".repeat(65_537)), ..Usage::new("u") })),
            ("client_request_id", Record::new(Usage::new("user-1"), named)),
        ] {
            // With billing first, a bad id of the client's doesn't keep the usage from being
            // billed.
            if is_billing_first && field == "client_request_id" {
                continue;
            }
            let refusals = [recorder.submit(bad.clone()).await, recorder.try_submit(bad.clone())];
            for refusal in refusals {
                let not = refusal.unwrap_err();
                assert_eq!(*not.record, bad);
                match not.error {
                    Error::Invalid(invalid) => assert_eq!(invalid.field(), field),
                    error => panic!("{error:?}"),
                }
            }
        }
        assert_eq!(recorder.len(), 0);
        all_recorded(burst(&recorder, [record(version)])).await;
        assert_eq!(recorded(&mut conn).await, Recorded::both(1));
    }
}

#[tokio::test]
async fn a_constraint_of_the_host_is_named() {
    for options in both_modes() {
        let (db, mut conn, version) = database().await;
        limit_costs(&mut conn).await;
        let recorder = start(&db.options(), options).await;
        let costly = costing(1_000, version);
        let given = [record(version), costly.clone(), record(version)];
        let [first, of_costly, last] = burst_of(&recorder, given);
        let not = answer(of_costly).await.unwrap_err();
        assert_eq!(*not.record, costly);
        assert_eq!(not.error, Error::UnknownConstraint { name: "host_rule".to_owned() });
        all_recorded([first, last]).await;
        assert_eq!(recorded(&mut conn).await, Recorded::both(2));
    }
}
