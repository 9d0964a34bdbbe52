//! How a recorder ends.

use crate::recording::recorder::{
    LONG, NEVER, all_recorded, both_ways, burst, database, lock, options, record, recorded, said,
    answered_already, start, unlock,
};
use crate::support::fixtures::{Recorded, active, raw, until_blocked, until_many_blocked};
use crate::support::log::Log;
use futures_util::FutureExt;
use model_experiments::recording::{Outcome, Record, Usage};
use model_experiments::{Error, Recorder};
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
async fn what_is_held_is_written_at_once() {
    for options in both_ways() {
        let (db, mut conn, version) = database().await;
        let options = options.max_delay(NEVER).retry_for(2 * NEVER).writers(2);
        let recorder = start(&db.options(), options).await;
        let receipts = burst(&recorder, (0..100).map(|_| record(version)));
        let left = timeout(LONG, recorder.shutdown(NEVER)).await.unwrap();
        assert_eq!(left, []);
        assert_eq!(answered_already(receipts), vec![Ok(Outcome::Recorded); 100]);
        assert_eq!(recorded(&mut conn).await, Recorded::both(100));
        refuses(&recorder.clone(), record(version));
        assert_eq!(recorder.shutdown(LONG).await, []);
        assert_eq!(recorded(&mut conn).await, Recorded::both(100));
    }
}

#[tokio::test]
async fn past_the_deadline_everything_comes_back() {
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default().max_batch(2).max_records(6).writers(2)).await;
    let holder = lock(&db, "microdollar_usage").await;
    let given = [(); 6].map(|()| record(version));
    let receipts = burst(&recorder, given.clone());
    until_many_blocked(&mut conn, 2).await;
    let mut waiting = Box::pin(recorder.submit(record(version)));
    assert!((&mut waiting).now_or_never().is_none());

    let mut left = recorder.shutdown(Duration::from_millis(20)).await;
    assert_eq!(waiting.now_or_never().unwrap().unwrap_err().error, Error::RecorderClosed);
    let mut said: Vec<_> = answered_already(receipts).into_iter().map(Result::unwrap_err).collect();
    let ids = said.iter().map(|not| not.record.usage.id);
    assert!(ids.eq(given.iter().map(|record| record.usage.id)));
    assert!(left.iter().all(|not| not.error == Error::RecorderClosed));
    for list in [&mut left, &mut said] {
        list.sort_by_key(|not| not.record.usage.id);
    }
    assert_eq!(left, said);
    assert_eq!(recorder.len(), 0);
    refuses(&recorder, record(version));
    assert_eq!(recorder.shutdown(LONG).await, []);
    unlock(holder).await;
}

#[tokio::test]
async fn what_was_written_before_the_deadline_does_not_come_back() {
    let (db, mut conn, version) = database().await;
    let rule = "ALTER TABLE microdollar_usage ADD CONSTRAINT host_rule CHECK (cost < 1000)";
    raw(&mut conn, rule).await.unwrap();
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    // A version that somebody holds: whoever refers to it waits.
    let other = active(&mut conn, "partner/bar").await.control_version.id;
    let mut holder = db.connect().await;
    let held = format!(
        "BEGIN; SELECT FROM model_experiment_variant_version WHERE id = '{other}' FOR UPDATE"
    );
    raw(&mut holder, &held).await.unwrap();

    let dear = Usage { cost: 1_000, ..Usage::new("user-1") };
    let dear = Record::new(dear, record(version).request);
    let waits = record(other);
    let given = [record(version), record(version), dear, waits.clone()];
    let [first, second, of_dear, of_waits] = <[_; 4]>::try_from(burst(&recorder, given)).unwrap();
    until_blocked(&mut conn).await;
    let left = recorder.shutdown(Duration::ZERO).await;
    assert_eq!(answered_already([first, second]), vec![Ok(Outcome::Recorded); 2]);
    let refused = answered_already([of_dear]).pop().unwrap().unwrap_err();
    assert!(matches!(refused.error, Error::UnknownConstraint { .. }), "{refused}");
    assert_eq!(left.iter().map(|not| &*not.record).collect::<Vec<_>>(), [&waits]);
    assert_eq!(answered_already([of_waits]), left.into_iter().map(Err).collect::<Vec<_>>());
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
    assert_eq!(answered_already(receipts), [Ok(Outcome::Recorded)]);
    assert_eq!(recorded(&mut conn).await, Recorded::both(1));
}

#[tokio::test]
async fn of_two_shutdowns_the_shorter_deadline_holds() {
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    let holder = lock(&db, "microdollar_usage").await;
    let given = record(version);
    let receipts = burst(&recorder, [given.clone()]);
    until_blocked(&mut conn).await;
    let patient = tokio::spawn({
        let recorder = recorder.clone();
        async move { recorder.shutdown(NEVER).await }
    });
    yield_now().await;
    let mut left = timeout(LONG, recorder.shutdown(Duration::ZERO)).await.expect("it ends in time");
    left.extend(timeout(LONG, patient).await.unwrap().unwrap());
    assert_eq!(left.len(), 1);
    assert_eq!((&*left[0].record, &left[0].error), (&given, &Error::RecorderClosed));
    assert_eq!(answered_already(receipts), left.into_iter().map(Err).collect::<Vec<_>>());
    unlock(holder).await;
}

#[tokio::test]
async fn a_recorder_that_is_dropped_writes_on_and_is_logged() {
    for options in both_ways() {
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
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("dropped without shutdown"), "{errors:?}");
        assert!(errors[0].contains("records=20"), "{errors:?}");
        unlock(holder).await;
        all_recorded(receipts).await;
        assert_eq!(recorded(&mut conn).await, Recorded::both(20));
    }
}

#[tokio::test]
async fn a_recorder_that_was_shut_down_is_dropped_in_silence() {
    let (log, _guard) = Log::of_thread();
    let (db, _conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    all_recorded(burst(&recorder, [record(version)])).await;
    assert_eq!(recorder.shutdown(LONG).await, []);
    drop(recorder);
    assert_eq!(log.lines(), [""; 0]);
}

#[test]
fn a_runtime_that_ends_answers_what_it_held() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for options in both_ways() {
        let (first, second) = (runtime(), runtime());
        let (db, _conn, version) = second.block_on(database());
        let options = options.max_batch(2).max_records(6);
        let recorder = first.block_on(start(&db.options(), options));
        let holder = second.block_on(lock(&db, "microdollar_usage"));
        let receipts = burst(&recorder, (0..6).map(|_| record(version)));
        // It gets turns until a statement waits.
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
