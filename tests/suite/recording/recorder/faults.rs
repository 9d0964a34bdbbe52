//! What a recorder does when the database can't be reached or gives way.

use crate::recording::recorder::{
    BACKENDS, all_recorded, both_ways, burst, database, hold, lock, options, record, recorded,
    said, answered_already, start, unlock, until_empty,
};
use crate::support::fixtures::{Recorded, eventually, insert_usage, number, option, raw, text, until_blocked, until_many_blocked};
use crate::support::log::Log;
use crate::support::network::Network;
use model_experiments::Error;
use model_experiments::error::Transient;
use model_experiments::recording::Outcome;
use std::time::Duration;

/// So short that a test can wait for it.
const SHORT: Duration = Duration::from_millis(500);

#[tokio::test]
async fn what_is_given_during_an_outage_is_recorded_after_it() {
    for options in both_ways() {
        let (db, mut conn, version) = database().await;
        let network = Network::to(&db.url()).await;
        let (log, _guard) = Log::of_thread();
        let recorder = start(&options_of(network.url()), options).await;
        network.cut();
        let receipts = burst(&recorder, (0..100).map(|_| record(version)));
        eventually("it is tried again", async || {
            tokio::task::yield_now().await;
            log.lines().iter().filter(|line| line.contains("tried again")).count() >= 2
        })
        .await;
        assert_eq!((recorder.len(), recorded(&mut conn).await), (100, [0, 0]));
        network.mend();
        all_recorded(receipts).await;
        assert_eq!(recorded(&mut conn).await, Recorded::both(100));
        assert_eq!(log.errors(), [""; 0]);
    }
}

#[tokio::test]
async fn a_commit_that_nobody_heard_of_is_found_out() {
    for options in both_ways() {
        let (db, mut conn, version) = database().await;
        let network = Network::to(&db.url()).await;
        let recorder = start(&options_of(network.url()), options).await;
        // Else the statement would be prepared first, and wait for the lock then.
        all_recorded(burst(&recorder, (0..10).map(|_| record(version)))).await;
        let holder = lock(&db, "model_experiment_request").await;
        let receipts = burst(&recorder, (0..10).map(|_| record(version)));
        until_blocked(&mut conn).await;
        network.cut();
        // The server, which has the statement, doesn't know that nobody waits for it.
        unlock(holder).await;
        eventually("it is committed", async || recorded(&mut conn).await == Recorded::both(20)).await;
        network.mend();
        for receipt in receipts {
            assert_eq!(answer(receipt).await, Ok(Outcome::AlreadyRecorded));
        }
        assert_eq!(recorded(&mut conn).await, Recorded::both(20));
    }
}

#[tokio::test]
async fn a_statement_whose_process_is_ended_is_repeated() {
    for options in both_ways() {
        let (db, mut conn, version) = database().await;
        let recorder = start(&db.options(), options).await;
        for _ in 0..3 {
            let holder = lock(&db, "model_experiment_request").await;
            let receipts = burst(&recorder, (0..10).map(|_| record(version)));
            until_blocked(&mut conn).await;
            let end =
                format!("SELECT pg_terminate_backend(pid) {BACKENDS} AND wait_event_type = 'Lock'");
            raw(&mut conn, &end).await.unwrap();
            unlock(holder).await;
            all_recorded(receipts).await;
        }
        assert_eq!(recorded(&mut conn).await, Recorded::both(30));
    }
}

#[tokio::test]
async fn a_network_that_says_nothing_counts_as_lost() {
    let (db, mut conn, version) = database().await;
    let network = Network::to(&db.url()).await;
    let (log, _guard) = Log::of_thread();
    let recorder = start(&options_of(network.url()), RecorderOptions::default().write_timeout(2 * SHORT)).await;
    all_recorded(burst(&recorder, [record(version)])).await;
    network.silence();
    let receipts = burst(&recorder, [record(version), record(version)]);
    eventually("it gives the connection up", async || {
        tokio::task::yield_now().await;
        log.lines().iter().any(|line| line.contains("no answer within"))
    })
    .await;
    network.mend();
    for receipt in receipts {
        // Perhaps the statement was through before.
        assert!(answer(receipt).await.is_ok());
    }
    assert_eq!(recorded(&mut conn).await, Recorded::both(3));
}

#[tokio::test]
async fn who_gives_way_in_a_deadlock_tries_again() {
    let (log, _guard) = Log::of_thread();
    let (db, mut conn, version) = database().await;
    let impatient = option(&db.url(), "options=-c%20deadlock_timeout%3D10ms");
    let recorder = start(&impatient, RecorderOptions::default()).await;
    let mut given = [(); 3].map(|()| record(version));
    given.sort_by_key(|record| record.usage.id);
    let [first, second, third] = given.clone().map(|record| record.usage);
    // Others hold the second and the third, so the recorder has the first and waits for the second.
    let of_second = hold(&db, &second).await;
    let mut of_third = hold(&db, &third).await;
    let receipts = burst(&recorder, given);
    until_blocked(&mut conn).await;
    let circle = tokio::spawn(async move {
        raw(&mut of_third, "SET deadlock_timeout = '1h'").await.unwrap();
        assert!(insert_usage(&mut of_third, &first).await);
        unlock(of_third).await;
    });
    until_many_blocked(&mut conn, 2).await;
    unlock(of_second).await;
    circle.await.unwrap();
    all_recorded(receipts).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(3));
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("tried again"), "{lines:?}");
    assert!(lines[0].contains("gave way in a deadlock"), "{lines:?}");
}

#[tokio::test]
async fn writers_wait_for_each_other_in_one_order() {
    let (log, _guard) = Log::of_thread();
    let (db, mut conn, version) = database().await;
    let recorders = [start(&db.options(), RecorderOptions::default()).await, start(&db.options(), RecorderOptions::default()).await];
    let mut given = [(); 3].map(|()| record(version));
    given.sort_by_key(|record| record.usage.id);
    let [first, second, third] = given;
    // Somebody holds the second. Were the one to go by its order, it would have the third and go on to the first, and the
    // other the first and go on to the third.
    let holder = hold(&db, &second.usage).await;
    let mut receipts = burst(&recorders[0], [third.clone(), second, first.clone()]);
    until_blocked(&mut conn).await;
    receipts.extend(burst(&recorders[1], [first, third]));
    until_many_blocked(&mut conn, 2).await;
    unlock(holder).await;
    for receipt in receipts {
        assert!(answer(receipt).await.is_ok());
    }
    assert_eq!(recorded(&mut conn).await, Recorded::both(3));
    assert_eq!(log.lines(), [""; 0]);
}

#[tokio::test]
async fn what_can_not_be_serialized_is_tried_again() {
    let (log, _guard) = Log::of_thread();
    let (db, mut conn, version) = database().await;
    let strict = option(&db.url(), "options=-c%20default_transaction_isolation%3Dserializable");
    let recorder = start(&strict, RecorderOptions::default()).await;
    let given = record(version);
    let mut holder = hold(&db, &given.usage).await;
    let receipts = burst(&recorder, [given, record(version)]);
    until_blocked(&mut conn).await;
    raw(&mut holder, "COMMIT").await.unwrap();
    all_recorded(receipts).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(2));
    let lines = log.lines();
    assert!(lines.iter().any(|line| line.contains("could not serialize access")), "{lines:?}");
}

#[tokio::test]
async fn a_server_that_takes_no_writes_for_now_is_waited_for() {
    let (log, _guard) = Log::of_thread();
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    all_recorded(burst(&recorder, [record(version)])).await;
    let name = text(&mut conn, "SELECT current_database() AS text").await;
    let switch = |to| format!("ALTER DATABASE {name} SET default_transaction_read_only = {to}");
    let end = format!("SELECT pg_terminate_backend(pid) {BACKENDS}");
    raw(&mut conn, &format!("{}; {end}", switch("on"))).await.unwrap();
    let receipts = burst(&recorder, [record(version)]);
    eventually("it is tried again", async || {
        tokio::task::yield_now().await;
        log.lines().iter().filter(|line| line.contains("tried again")).count() >= 2
    })
    .await;
    raw(&mut conn, &switch("off")).await.unwrap();
    all_recorded(receipts).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(2));
}

#[tokio::test]
async fn everything_comes_back_when_its_time_is_over() {
    for is_cut in [true, false] {
        let (log, _guard) = Log::of_thread();
        let (db, mut conn, version) = database().await;
        let network = Network::to(&db.url()).await;
        let options =
            RecorderOptions::default().max_batch(2).max_records(8).retry_for(SHORT).write_timeout(2 * SHORT);
        let recorder = start(&options_of(network.url()), options).await;
        if is_cut {
            network.cut();
        } else {
            network.silence();
        }
        let given = [(); 8].map(|()| record(version));
        let mut receipts = burst(&recorder, given.clone()).into_iter();
        let mut ends = vec![answer(receipts.next().unwrap()).await];
        // With those that were being written, those come back that wait for them.
        ends.extend(answered_already(receipts));
        for (record, end) in given.into_iter().zip(ends) {
            let not = end.unwrap_err();
            assert_eq!(*not.record, record);
            assert!(not.error.is_retryable(), "{not}");
            assert!(
                matches!(not.error, Error::Transient { kind: Transient::ConnectionLost, .. }),
                "{not}"
            );
        }
        assert!(log.lines().iter().any(|line| line.contains("recording is given up")));
        assert_eq!(recorder.len(), 0);

        network.mend();
        let again = [(); 8].map(|()| record(version));
        eventually("it goes on", async || {
            let mut ends = Vec::new();
            for receipt in burst(&recorder, again.clone()) {
                ends.push(answer(receipt).await);
            }
            until_empty(&recorder).await;
            ends.iter().all(Result::is_ok)
        })
        .await;
        assert_eq!(number(&mut conn, "SELECT count(*) AS number FROM microdollar_usage").await, 8);
    }
}
