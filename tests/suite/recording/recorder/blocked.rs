//! Records that wait for a lock: those that don't go on.

use crate::recording::recorder::{
    Database, LONG, all_recorded, answer, both_modes, burst, database, hold, hold_version, record,
    start, unlock, until_empty,
};
use crate::support::fixtures::{Recorded, active, eventually, raw, recorded, until_blocked};
use futures_util::FutureExt;
use model_experiments::error::Transient;
use model_experiments::recording::Receipt;
use model_experiments::values::VersionId;
use model_experiments::{Error, Recorder, RecorderOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

/// Batches that would last longer than [`LONG`] if each waited for a lock.
const ROUNDS: usize = 100;

/// The receipts that are not answered yet.
fn unanswered(receipts: &mut [Receipt]) -> usize {
    receipts.iter_mut().filter_map(|receipt| receipt.now_or_never().is_none().then_some(())).count()
}

/// Waits until the recorder holds these records alone.
async fn until_empty_but(recorder: &Recorder, records: usize) {
    eventually("the others' room is given back", async || {
        yield_now().await;
        recorder.len() == records
    })
    .await;
}

#[tokio::test]
async fn a_locked_version_delays_its_own_records_alone() {
    for options in both_modes() {
        delays_records_of_a_locked_version_alone(database().await, options).await;
    }
}

pub async fn delays_records_of_a_locked_version_alone(
    (db, mut conn, version): Database,
    options: RecorderOptions,
) {
    let locked = active(&mut conn, "partner/locked").await.control_version.id;
    let recorder = start(&db.options(), options).await;
    let holder = hold_version(&db, locked).await;
    let mut of_locked = Vec::new();
    let undisturbed = async {
        for _ in 0..ROUNDS {
            of_locked.extend(burst(&recorder, [locked, locked].map(record)));
            all_recorded(burst(&recorder, [version, version].map(record))).await;
        }
    };
    timeout(LONG, undisturbed).await.expect("the others go on");
    assert_eq!(unanswered(&mut of_locked), 2 * ROUNDS);
    assert_eq!(recorded(&mut conn).await.requests, 2 * ROUNDS as i64);
    unlock(holder).await;
    all_recorded(of_locked).await;
    until_empty(&recorder).await;
    // It counts as locked no longer.
    all_recorded(burst(&recorder, [locked, version].map(record))).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(4 * ROUNDS as i64 + 2));
}

#[tokio::test]
async fn a_version_that_is_locked_again_is_set_aside_again() {
    let (db, mut conn, version) = database().await;
    let locked = active(&mut conn, "partner/locked").await.control_version.id;
    let options = RecorderOptions::default().write_timeout(Duration::from_millis(500));
    let recorder = start(&db.options(), options).await;
    for round in 1..=3 {
        let holder = hold_version(&db, locked).await;
        let of_locked = burst(&recorder, [locked, version].map(record));
        all_recorded(burst(&recorder, [record(version)])).await;
        unlock(holder).await;
        all_recorded(of_locked).await;
        assert_eq!(recorded(&mut conn).await, Recorded::both(3 * round));
    }
}

#[tokio::test]
async fn records_of_a_locked_version_come_back_when_their_time_is_over() {
    let (db, mut conn, version) = database().await;
    let locked = active(&mut conn, "partner/locked").await.control_version.id;
    let options = RecorderOptions::default()
        .write_timeout(Duration::from_millis(300))
        .retry_for(Duration::from_secs(2));
    let recorder = start(&db.options(), options).await;
    let holder = hold_version(&db, locked).await;
    let given: Vec<_> = (0..50).map(|_| record(locked)).collect();
    let of_locked = burst(&recorder, given.clone());
    all_recorded(burst(&recorder, (0..50).map(|_| record(version)))).await;
    for (receipt, record) in of_locked.into_iter().zip(given) {
        let not = answer(receipt).await.unwrap_err();
        assert_eq!(*not.record, record);
        let is_timeout = matches!(not.error, Error::Transient { kind: Transient::LockTimeout, .. });
        assert!(is_timeout, "{not}");
    }
    assert!(recorder.is_empty());
    unlock(holder).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(50));
}

#[tokio::test]
async fn records_go_on_when_every_version_was_locked() {
    let (db, mut conn, version) = database().await;
    let mut versions = vec![version];
    for model in ["partner/one", "partner/two"] {
        let active = active(&mut conn, model).await;
        versions.extend([active.control_version.id, active.candidate_version.id]);
    }
    let options = RecorderOptions::default().write_timeout(Duration::from_millis(500)).writers(2);
    let recorder = start(&db.options(), options).await;
    let mut holder = db.connect().await;
    raw(&mut holder, "BEGIN; SELECT FROM model_experiment_variant_version FOR UPDATE")
        .await
        .unwrap();
    let mut receipts = Vec::new();
    for _ in 0..3 {
        receipts.extend(burst(&recorder, (0..100).map(|at| record(versions[at % 5]))));
        until_blocked(&mut conn).await;
    }
    assert_eq!(unanswered(&mut receipts), 300);
    unlock(holder).await;
    all_recorded(receipts).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(300));
}

#[tokio::test]
async fn records_of_a_locked_version_leave_half_of_the_room_to_the_others() {
    let (db, mut conn, version) = database().await;
    let locked = active(&mut conn, "partner/locked").await.control_version.id;
    let options = RecorderOptions::default().max_batch(10).max_records(10);
    let recorder = start(&db.options(), options).await;
    let holder = hold_version(&db, locked).await;
    let mut of_locked = burst(&recorder, [record(locked)]);
    // Once another is recorded, the version is known to be locked.
    all_recorded(burst(&recorder, [record(version)])).await;
    let refused = loop {
        match recorder.try_submit(record(locked)) {
            Ok(receipt) => of_locked.push(receipt),
            Err(not) => break not.error,
        }
    };
    assert_eq!((refused, of_locked.len()), (Error::RecorderFull, 6));
    let mut waiting = Box::pin(recorder.submit(record(locked)));
    assert!((&mut waiting).now_or_never().is_none());
    for _ in 0..ROUNDS {
        all_recorded(burst(&recorder, [version, version].map(record))).await;
        until_empty_but(&recorder, 6).await;
    }
    assert!((&mut waiting).now_or_never().is_none());
    unlock(holder).await;
    of_locked.push(timeout(LONG, waiting).await.expect("there is room").unwrap());
    all_recorded(of_locked).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(2 * ROUNDS as i64 + 8));
}

#[tokio::test]
async fn a_record_that_waits_for_a_locked_version_comes_back_at_a_shutdown() {
    let (db, mut conn, version) = database().await;
    let locked = active(&mut conn, "partner/locked").await.control_version.id;
    let options = RecorderOptions::default().max_batch(2).max_records(2);
    let recorder = start(&db.options(), options).await;
    let holder = hold_version(&db, locked).await;
    let _of_locked = burst(&recorder, [record(locked)]);
    all_recorded(burst(&recorder, [record(version)])).await;
    let _of_locked = burst(&recorder, [record(locked)]);
    let waiting = recorder.submit(record(locked));
    let (waited, left) = tokio::join!(waiting, recorder.shutdown(Duration::from_millis(20)));
    assert_eq!(waited.unwrap_err().error, Error::RecorderClosed);
    assert_eq!(left.len(), 2);
    unlock(holder).await;
}

#[tokio::test]
async fn a_held_usage_delays_no_other_of_its_version() {
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    let held = record(version);
    let holder = hold(&db, &held.usage).await;
    let mut of_held = burst(&recorder, [held]);
    all_recorded(burst(&recorder, [record(version)])).await;
    let others = async {
        for _ in 0..ROUNDS {
            all_recorded(burst(&recorder, [version, version].map(record))).await;
        }
    };
    timeout(LONG, others).await.expect("the others go on");
    assert_eq!(unanswered(&mut of_held), 1);
    unlock(holder).await;
    all_recorded(of_held).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(2 * ROUNDS as i64 + 2));
}

/// How the others fared beside a locked version.
struct Measured {
    acknowledged: usize,
    median: Duration,
}

/// Submits records from 64 callers, of which `percent` are of `locked`, and measures the others.
async fn measure(
    recorder: &Arc<Recorder>,
    version: VersionId,
    locked: VersionId,
    percent: usize,
) -> Measured {
    let mut callers = JoinSet::new();
    for caller in 0..64 {
        let recorder = Arc::clone(recorder);
        callers.spawn(async move {
            let (start, mut latencies, mut of_locked) = (Instant::now(), Vec::new(), Vec::new());
            for at in 0.. {
                if start.elapsed() > Duration::from_secs(40) {
                    break;
                }
                // A caller that awaits a locked version's record submits no more.
                if (at * 37 + caller * 11) % 100 < percent {
                    of_locked.extend(recorder.try_submit(record(locked)));
                } else {
                    let submitted = Instant::now();
                    let receipt = recorder.submit(record(version)).await.unwrap();
                    if timeout(Duration::from_secs(40), receipt).await.is_ok_and(|end| end.is_ok())
                    {
                        latencies.push(submitted.elapsed());
                    }
                }
                sleep(Duration::from_millis(50)).await;
            }
            latencies
        });
    }
    let mut latencies = callers.join_all().await.concat();
    latencies.sort();
    Measured { acknowledged: latencies.len(), median: latencies[latencies.len() / 2] }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes two minutes"]
async fn the_others_take_at_most_three_times_as_long_beside_a_locked_version() {
    let (db, mut conn, version) = database().await;
    let locked = active(&mut conn, "partner/locked").await.control_version.id;
    let recorder = Arc::new(start(&db.options(), RecorderOptions::default()).await);
    let undisturbed = measure(&recorder, version, locked, 0).await;
    println!("undisturbed: {}, {:?}", undisturbed.acknowledged, undisturbed.median);
    for percent in [5, 50] {
        let holder = hold_version(&db, locked).await;
        let disturbed = measure(&recorder, version, locked, percent).await;
        println!("{percent} %: {}, {:?}", disturbed.acknowledged, disturbed.median);
        unlock(holder).await;
        until_empty(&recorder).await;
        assert!(disturbed.median <= 3 * undisturbed.median, "{percent} %");
        let share = undisturbed.acknowledged * (100 - percent) / 100;
        assert!(disturbed.acknowledged >= share * 4 / 5, "{percent} %");
    }
}
