//! How much a recorder holds.

use crate::recording::recorder::{
    LONG, all_recorded, answer, both_modes, burst, database, lock, missing, record, start, unlock,
    until_empty,
};
use crate::support::fixtures::{Recorded, recorded, until_blocked};
use crate::support::log::Log;
use futures_util::FutureExt;
use model_experiments::recording::{Record, Usage};
use model_experiments::values::VersionId;
use model_experiments::{Error, RecorderOptions};
use tokio::time::timeout;

/// How a record is made.
type Make = fn(VersionId) -> Record;

/// A record whose texts take about 200,000 bytes.
fn large(version: VersionId) -> Record {
    let text = || Some("x".repeat(65_000));
    let usage =
        Usage { model: text(), provider: text(), project_id: text(), ..Usage::new("user-1") };
    Record::new(usage, record(version).request)
}

#[tokio::test]
async fn a_full_recorder_says_so_until_there_is_room() {
    for (make, max_records, many) in [(record as Make, 6, 6), (large, 1_000, 5)] {
        let (db, mut conn, version) = database().await;
        let options =
            RecorderOptions::default().max_batch(2).max_records(max_records).max_bytes(1 << 20);
        let recorder = start(&db.options(), options).await;
        for round in 1..=3 {
            let holder = lock(&db, "microdollar_usage").await;
            let receipts = burst(&recorder, (0..many).map(|_| make(version)));
            let another = make(version);
            let refuse = || {
                let not = recorder.try_submit(another.clone()).unwrap_err();
                assert_eq!(not.error, Error::RecorderFull);
                assert_eq!(*not.record, another);
                assert_eq!(recorder.len(), many);
            };
            refuse();
            until_blocked(&mut conn).await;
            // A record that is being written still takes its room.
            refuse();
            unlock(holder).await;
            all_recorded(receipts).await;
            until_empty(&recorder).await;
            let total = round * many as i64;
            assert_eq!(recorded(&mut conn).await, Recorded::both(total));
        }
    }
}

#[tokio::test]
async fn submit_waits_for_room() {
    let (db, mut conn, version) = database().await;
    let recorder =
        start(&db.options(), RecorderOptions::default().max_batch(2).max_records(2)).await;
    let holder = lock(&db, "microdollar_usage").await;
    let mut receipts = burst(&recorder, [record(version), record(version)]);
    until_blocked(&mut conn).await;
    let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(recorder.submit(record(version)))).collect();
    assert!(waiting.iter_mut().all(|record| record.now_or_never().is_none()));
    assert_eq!(recorder.len(), 2);
    unlock(holder).await;
    for waiting in waiting {
        receipts.push(timeout(LONG, waiting).await.unwrap().unwrap());
    }
    all_recorded(receipts).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(12));
}

#[tokio::test]
async fn a_cancelled_submit_takes_no_room_and_is_logged() {
    for (make, max_records, many) in [(record as Make, 2, 2), (large, 1_000, 5)] {
        let (log, _guard) = Log::of_thread();
        let (db, mut conn, version) = database().await;
        let options =
            RecorderOptions::default().max_batch(1).max_records(max_records).max_bytes(1 << 20);
        let recorder = start(&db.options(), options).await;
        let holder = lock(&db, "microdollar_usage").await;
        let receipts = burst(&recorder, (0..many).map(|_| make(version)));
        let cancelled = [make(version), make(version)];
        let mut waiting = cancelled.clone().map(|record| Box::pin(recorder.submit(record)));
        assert!(waiting.iter_mut().all(|record| record.now_or_never().is_none()));
        assert_eq!(log.errors(), [""; 0]);
        drop(waiting);
        assert_eq!(recorder.len(), many);
        let errors = log.errors();
        assert_eq!(errors.len(), 2, "{errors:?}");
        for (record, error) in cancelled.iter().zip(&errors) {
            assert!(error.contains("a record is lost"), "{error}");
            assert!(error.contains(&record.usage.id.to_string()), "{error}");
        }
        unlock(holder).await;
        all_recorded(receipts).await;
        until_empty(&recorder).await;
        all_recorded(burst(&recorder, (0..many).map(|_| make(version)))).await;
        let total = 2 * many as i64;
        assert_eq!(recorded(&mut conn).await, Recorded::both(total));
    }
}

#[tokio::test]
async fn a_record_without_a_receipt_is_recorded() {
    for options in both_modes() {
        let (log, _guard) = Log::of_thread();
        let (db, mut conn, version) = database().await;
        let recorder = start(&db.options(), options).await;
        drop(burst(&recorder, (0..100).map(|_| record(version))));
        until_empty(&recorder).await;
        assert_eq!(recorded(&mut conn).await, Recorded::both(100));
        assert_eq!(log.errors(), [""; 0]);
        // A failure is logged.
        let bad = record(missing());
        let id = bad.usage.id.to_string();
        drop(burst(&recorder, [bad]));
        until_empty(&recorder).await;
        let errors = log.errors();
        let [error] = &errors[..] else { panic!("{errors:?}") };
        assert!(error.contains(&id) && error.contains("its receipt was dropped"), "{error}");
    }
}

#[tokio::test]
async fn room_is_free_again_after_a_failure() {
    for options in both_modes() {
        let (db, mut conn, version) = database().await;
        let recorder = start(&db.options(), options.max_batch(3).max_records(3)).await;
        for _ in 0..3 {
            let given = [missing(), version, missing()].map(record);
            for receipt in burst(&recorder, given) {
                let _outcome = answer(receipt).await;
            }
            until_empty(&recorder).await;
        }
        assert_eq!(recorded(&mut conn).await.requests, 3);
    }
}

#[tokio::test]
async fn a_text_with_more_capacity_than_there_is_room_is_taken() {
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default().max_bytes(1 << 20)).await;
    let roomy = || {
        let mut model = String::with_capacity(2 << 20);
        model.push_str("foo-rc1");
        let usage = Usage { model: Some(model), ..Usage::new("user-1") };
        Record::new(usage, record(version).request)
    };
    let waiting = timeout(LONG / 10, recorder.submit(roomy())).await;
    let mut receipts = vec![waiting.expect("there is room").unwrap()];
    until_empty(&recorder).await;
    receipts.push(recorder.try_submit(roomy()).unwrap());
    all_recorded(receipts).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(2));
}
