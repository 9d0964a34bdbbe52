//! How a recorder ends.

use crate::recording::recorder::{
    LONG, NEVER, all_answered, all_recorded, answer, answered, both_modes, burst, burst_of,
    costing, database, hold_version, limit_costs, lock, record, start, unlock,
};
use crate::support::fixtures::{Recorded, active, recorded, until_blocked, until_many_blocked};
use crate::support::log::Log;
use futures_util::FutureExt;
use model_experiments::recording::{Outcome, Record};
use model_experiments::{Error, Recorder, RecorderOptions};
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::timeout;

fn refuses(recorder: &Recorder, record: Record) {
    for refusal in [
        recorder.try_submit(record.clone()),
        recorder.submit(record.clone()).now_or_never().unwrap(),
    ] {
        let not = refusal.unwrap_err();
        assert_eq!((*not.record, not.error), (record.clone(), Error::RecorderClosed));
    }
}

#[tokio::test]
async fn held_records_are_written_at_once() {
    for options in both_modes() {
        let (db, mut conn, version) = database().await;
        let options = options.max_delay(NEVER).retry_for(2 * NEVER).writers(2);
        let recorder = start(&db.options(), options).await;
        let receipts = burst(&recorder, (0..100).map(|_| record(version)));
        let left = timeout(LONG, recorder.shutdown(NEVER)).await.unwrap();
        assert_eq!(left, []);
        assert_eq!(all_answered(receipts), vec![Ok(Outcome::Recorded); 100]);
        assert_eq!(recorded(&mut conn).await, Recorded::both(100));
        refuses(&recorder.clone(), record(version));
        assert_eq!(recorder.shutdown(LONG).await, []);
        assert_eq!(recorded(&mut conn).await, Recorded::both(100));
    }
}

#[tokio::test]
async fn past_the_deadline_every_record_comes_back() {
    let (db, mut conn, version) = database().await;
    let recorder =
        start(&db.options(), RecorderOptions::default().max_batch(2).max_records(6).writers(2))
            .await;
    let holder = lock(&db, "microdollar_usage").await;
    let given = [(); 6].map(|()| record(version));
    let receipts = burst(&recorder, given.clone());
    until_many_blocked(&mut conn, 2).await;
    let mut waiting = Box::pin(recorder.submit(record(version)));
    assert!((&mut waiting).now_or_never().is_none());

    let mut left = recorder.shutdown(Duration::from_millis(20)).await;
    assert_eq!(waiting.now_or_never().unwrap().unwrap_err().error, Error::RecorderClosed);
    let mut refused: Vec<_> = all_answered(receipts).into_iter().map(Result::unwrap_err).collect();
    let ids = refused.iter().map(|not| not.record.usage.id);
    assert!(ids.eq(given.iter().map(|record| record.usage.id)));
    assert!(left.iter().all(|not| not.error == Error::RecorderClosed));
    for list in [&mut left, &mut refused] {
        list.sort_by_key(|not| not.record.usage.id);
    }
    assert_eq!(left, refused);
    assert_eq!(recorder.len(), 0);
    refuses(&recorder, record(version));
    assert_eq!(recorder.shutdown(LONG).await, []);
    unlock(holder).await;
}

#[tokio::test]
async fn a_record_that_was_written_before_the_deadline_does_not_come_back() {
    let (db, mut conn, version) = database().await;
    limit_costs(&mut conn).await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    let other = active(&mut conn, "partner/bar").await.control_version.id;
    let holder = hold_version(&db, other).await;

    let held = record(other);
    let given = [record(version), record(version), costing(1_000, version), held.clone()];
    let [first, second, of_costly, of_held] = burst_of(&recorder, given);
    until_blocked(&mut conn).await;
    let left = recorder.shutdown(Duration::ZERO).await;
    assert_eq!(all_answered([first, second]), vec![Ok(Outcome::Recorded); 2]);
    let refused = answered(of_costly).unwrap_err();
    assert!(matches!(refused.error, Error::UnknownConstraint { .. }), "{refused}");
    let [left] = <[_; 1]>::try_from(left).unwrap();
    assert_eq!(*left.record, held);
    assert_eq!(answered(of_held), Err(left));
    assert_eq!(recorded(&mut conn).await, Recorded::both(2));
    unlock(holder).await;
}

#[tokio::test]
async fn a_shutdown_that_is_cancelled_is_repeated() {
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    let holder = lock(&db, "microdollar_usage").await;
    let receipts = burst(&recorder, [record(version)]);
    until_blocked(&mut conn).await;
    for _ in 0..3 {
        assert!(recorder.shutdown(LONG).now_or_never().is_none());
        refuses(&recorder, record(version));
    }
    unlock(holder).await;
    assert_eq!(recorder.shutdown(LONG).await, []);
    assert_eq!(all_answered(receipts), [Ok(Outcome::Recorded)]);
    assert_eq!(recorded(&mut conn).await, Recorded::both(1));
}

#[tokio::test]
async fn of_two_shutdowns_the_shorter_deadline_holds() {
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    let holder = lock(&db, "microdollar_usage").await;
    let given = record(version);
    let receipt = recorder.try_submit(given.clone()).unwrap();
    until_blocked(&mut conn).await;
    let patient = tokio::spawn({
        let recorder = recorder.clone();
        async move { recorder.shutdown(NEVER).await }
    });
    yield_now().await;
    let mut left = timeout(LONG, recorder.shutdown(Duration::ZERO)).await.expect("it ends in time");
    left.extend(timeout(LONG, patient).await.unwrap().unwrap());
    let [left] = <[_; 1]>::try_from(left).unwrap();
    assert_eq!((&*left.record, &left.error), (&given, &Error::RecorderClosed));
    assert_eq!(answered(receipt), Err(left));
    unlock(holder).await;
}

#[tokio::test]
async fn a_recorder_that_is_dropped_writes_on_and_is_logged() {
    for options in both_modes() {
        let (log, _guard) = Log::of_thread();
        let (db, mut conn, version) = database().await;
        let recorder = start(&db.options(), options).await;
        let holder = lock(&db, "microdollar_usage").await;
        let clone = recorder.clone();
        let mut receipts = burst(&recorder, (0..10).map(|_| record(version)));
        drop(recorder);
        assert_eq!(log.errors(), [""; 0]);
        until_blocked(&mut conn).await;
        receipts.extend(burst(&clone, (0..10).map(|_| record(version))));
        drop(clone);
        let errors = log.errors();
        let [error] = &errors[..] else { panic!("{errors:?}") };
        assert!(error.contains("dropped without shutdown"), "{error}");
        assert!(error.contains("records=20"), "{error}");
        unlock(holder).await;
        all_recorded(receipts).await;
        assert_eq!(recorded(&mut conn).await, Recorded::both(20));
    }
}

#[tokio::test]
async fn dropping_a_recorder_that_was_shut_down_logs_nothing() {
    let (log, _guard) = Log::of_thread();
    let (db, _conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    all_recorded(burst(&recorder, [record(version)])).await;
    assert_eq!(recorder.shutdown(LONG).await, []);
    drop(recorder);
    assert_eq!(log.lines(), [""; 0]);
}

#[test]
fn a_runtime_that_ends_answers_the_records_that_it_held() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for options in both_modes() {
        let (first, second) = (runtime(), runtime());
        let (db, _conn, version) = second.block_on(database());
        let options = options.max_batch(2).max_records(6);
        let recorder = first.block_on(start(&db.options(), options));
        let holder = second.block_on(lock(&db, "microdollar_usage"));
        let receipts = burst(&recorder, (0..6).map(|_| record(version)));
        // The writers run until a statement waits.
        first.block_on(async {
            let mut watcher = db.connect().await;
            until_blocked(&mut watcher).await;
        });
        let waiting = Box::pin(recorder.submit(record(version)));
        drop(first);
        second.block_on(async {
            for receipt in receipts {
                let not = answer(receipt).await.unwrap_err();
                assert_eq!(not.error, Error::RecorderClosed);
            }
            let refused = timeout(LONG, waiting).await.expect("it is woken");
            assert_eq!(refused.unwrap_err().error, Error::RecorderClosed);
            refuses(&recorder, record(version));
            assert_eq!(recorder.shutdown(LONG).await, []);
            unlock(holder).await;
        });
    }
}
