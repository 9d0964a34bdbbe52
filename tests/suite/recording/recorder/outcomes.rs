//! What a receipt says, and when.

use crate::recording::recorder::{
    all_recorded, both_ways, burst, database, lock, missing, options, record, recorded, said,
    start, unlock,
};
use crate::support::fixtures::{Recorded, raw, until_blocked, until_many_blocked};
use futures_util::FutureExt;
use model_experiments::Error;
use model_experiments::recording::{self, Outcome, Record, Usage};

#[tokio::test]
async fn a_record_is_there_when_its_receipt_says_so() {
    for options in both_ways() {
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
    for options in both_ways() {
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
async fn what_is_given_again_is_recorded_once() {
    for options in both_ways() {
        let (db, mut conn, version) = database().await;
        let recorders = [start(&db.options(), options.clone()).await, start(&db.options(), options).await];
        let record = record(version);
        let [first, again] =
            <[_; 2]>::try_from(burst(&recorders[0], [(); 2].map(|()| record.clone()))).unwrap();
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
async fn what_is_given_to_two_at_once_is_recorded_by_one() {
    let (db, mut conn, version) = database().await;
    let recorders = [start(&db.options(), RecorderOptions::default()).await, start(&db.options(), RecorderOptions::default()).await];
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
        let dearer = Usage { cost: 7, has_error: true, ..record.usage.clone() };
        let other_usage = Record::new(dearer, record.request.clone());
        let named = record.request.clone().client_request_id("client-1");
        let other_request = Record::new(record.usage.clone(), named);
        let differently = |columns: &[&'static str]| Error::RecordedDifferently {
            usage: id,
            columns: columns.to_vec(),
        };
        // In the statement that records the first, and in a later one.
        for first in [Outcome::Recorded, Outcome::AlreadyRecorded] {
            let given = [record.clone(), other_usage.clone(), other_request.clone()];
            let mut said_of = Vec::new();
            for receipt in burst(&recorder, given) {
                said_of.push(answer(receipt).await);
            }
            let [of_record, of_usage, of_request] = <[_; 3]>::try_from(said_of).unwrap();
            assert_eq!(of_record, Ok(first));
            let not = of_usage.unwrap_err();
            assert_eq!(
                (*not.record, not.error),
                (other_usage.clone(), differently(&["cost", "has_error"]))
            );
            let not = of_request.unwrap_err();
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
async fn a_version_that_is_not_there_is_named() {
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    let unknown = [missing(), missing()];
    let given = [unknown[0], version, unknown[1]].map(record);
    let [first, known, second] = <[_; 3]>::try_from(burst(&recorder, given.clone())).unwrap();
    all_recorded([known]).await;
    for (receipt, record, version) in
        [(first, &given[0], unknown[0]), (second, &given[2], unknown[1])]
    {
        let not = answer(receipt).await.unwrap_err();
        assert_eq!((&*not.record, not.error), (record, Error::VersionNotFound(version)));
    }
    assert_eq!(recorded(&mut conn).await, Recorded::both(1));
}

#[tokio::test]
async fn bad_values_are_refused_at_once() {
    for (is_billing_first, options) in [false, true].into_iter().zip(both_ways()) {
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
            // Where billing comes first, nothing that a client says keeps it from being billed.
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
async fn a_constraint_of_the_hosts_is_named() {
    for options in both_ways() {
        let (db, mut conn, version) = database().await;
        let rule = "ALTER TABLE microdollar_usage ADD CONSTRAINT host_rule CHECK (cost < 1000)";
        raw(&mut conn, rule).await.unwrap();
        let recorder = start(&db.options(), options).await;
        let dear = Usage { cost: 1_000, ..Usage::new("user-1") };
        let dear = Record::new(dear, record(version).request);
        let given = [record(version), dear.clone(), record(version)];
        let [first, of_dear, last] = <[_; 3]>::try_from(burst(&recorder, given)).unwrap();
        let not = answer(of_dear).await.unwrap_err();
        assert_eq!(*not.record, dear);
        assert_eq!(not.error, Error::UnknownConstraint { name: "host_rule".to_owned() });
        all_recorded([first, last]).await;
        assert_eq!(recorded(&mut conn).await, Recorded::both(2));
    }
}
