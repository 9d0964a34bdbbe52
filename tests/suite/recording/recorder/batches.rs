//! Which records one statement writes.

use crate::recording::recorder::{
    NEVER, all_recorded, burst, count_statements, database, hold, lock, record, start, statements,
    unlock,
};
use crate::support::fixtures::{Recorded, recorded, until_blocked};
use futures_util::FutureExt;
use model_experiments::RecorderOptions;
use model_experiments::recording::{Record, Usage};
use std::time::Duration;
use tokio::task::yield_now;

#[tokio::test]
async fn records_that_come_while_a_statement_runs_are_in_the_next() {
    let (db, mut conn, version) = database().await;
    count_statements(&mut conn, "microdollar_usage").await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    let holder = lock(&db, "model_experiment_request").await;
    let mut receipts = burst(&recorder, [record(version)]);
    until_blocked(&mut conn).await;
    for _ in 0..100 {
        receipts.push(recorder.submit(record(version)).await.unwrap());
        yield_now().await;
    }
    unlock(holder).await;
    all_recorded(receipts).await;
    assert_eq!(statements(&mut conn).await, 2);
    assert_eq!(recorded(&mut conn).await, Recorded::both(101));
}

#[tokio::test]
async fn no_statement_takes_more_than_max_batch() {
    let (db, mut conn, version) = database().await;
    count_statements(&mut conn, "microdollar_usage").await;
    let recorder = start(&db.options(), RecorderOptions::default().max_batch(10)).await;
    all_recorded(burst(&recorder, (0..25).map(|_| record(version)))).await;
    assert_eq!(statements(&mut conn).await, 3);
    assert_eq!(recorded(&mut conn).await, Recorded::both(25));
}

#[tokio::test]
async fn no_statement_takes_more_than_a_few_mebibytes() {
    let (db, mut conn, version) = database().await;
    count_statements(&mut conn, "microdollar_usage").await;
    let options = RecorderOptions::default().max_batch(10_000);
    let recorder = start(&db.options(), options).await;
    let text = "x".repeat(64_000);
    let large = || {
        let usage = Usage {
            model: Some(text.clone()),
            provider: Some(text.clone()),
            ..Usage::new("user-1")
        };
        Record::new(usage, record(version).request)
    };
    all_recorded(burst(&recorder, (0..100).map(|_| large()))).await;
    // 4 MiB hold 32 such records.
    assert_eq!(statements(&mut conn).await, 4);
    assert_eq!(recorded(&mut conn).await, Recorded::both(100));
}

#[tokio::test]
async fn records_gather_until_they_are_large_enough() {
    let (db, mut conn, version) = database().await;
    let options = RecorderOptions::default().max_delay(NEVER).retry_for(2 * NEVER);
    let recorder = start(&db.options(), options).await;
    let large = || {
        let text = || Some("x".repeat(64_000));
        let usage = Usage { model: text(), provider: text(), ..Usage::new("user-1") };
        Record::new(usage, record(version).request)
    };
    // 4 MiB hold 32 such records.
    all_recorded(burst(&recorder, (0..33).map(|_| large())).drain(..32)).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(32));
}

#[tokio::test]
async fn records_gather_until_they_are_enough() {
    let (db, mut conn, version) = database().await;
    count_statements(&mut conn, "microdollar_usage").await;
    let options = RecorderOptions::default().max_batch(5).max_delay(NEVER).retry_for(2 * NEVER);
    for writers in [1, 2] {
        let recorder = start(&db.options(), options.clone().writers(writers)).await;
        for _ in 0..2 {
            let mut receipts = Vec::new();
            for len in 1..=5 {
                // Counting gives the writers time to take what is there.
                assert_eq!(statements(&mut conn).await, 0);
                receipts.push(recorder.submit(record(version)).await.unwrap());
                assert_eq!(recorder.len(), len);
            }
            all_recorded(receipts).await;
            assert_eq!(statements(&mut conn).await, 1);
        }
    }
    assert_eq!(recorded(&mut conn).await, Recorded::both(20));
}

#[tokio::test]
async fn records_gather_until_they_are_old_enough() {
    let (db, mut conn, version) = database().await;
    count_statements(&mut conn, "microdollar_usage").await;
    let recorder =
        start(&db.options(), RecorderOptions::default().max_delay(Duration::from_millis(50))).await;
    for _ in 0..3 {
        all_recorded(burst(&recorder, (0..3).map(|_| record(version)))).await;
        assert_eq!(statements(&mut conn).await, 1);
    }
    assert_eq!(recorded(&mut conn).await, Recorded::both(9));
}

#[tokio::test]
async fn a_writer_that_waits_does_not_delay_the_others() {
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default().writers(2)).await;
    let stuck = record(version);
    let holder = hold(&db, &stuck.usage).await;
    let mut receipt = recorder.try_submit(stuck).unwrap();
    until_blocked(&mut conn).await;
    for _ in 0..10 {
        all_recorded(burst(&recorder, [record(version), record(version)])).await;
    }
    assert!((&mut receipt).now_or_never().is_none());
    assert_eq!(recorded(&mut conn).await, Recorded::both(20));
    unlock(holder).await;
    all_recorded([receipt]).await;
}
