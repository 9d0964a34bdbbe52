//! Outages, deadlocks and serialization failures: the recorder retries.

use crate::recording::recorder::{
    BACKENDS, Database, LONG, RETRIED, all_answered, all_recorded, answer, both_modes, burst,
    costing, database, hold, lock, record, start, unlock, until_empty, until_retried,
};
use crate::support::fixtures::{
    Recorded, eventually, insert_usage, number, option, raw, recorded, text, until_blocked,
    until_many_blocked,
};
use crate::support::log::Log;
use crate::support::network::Network;
use crate::support::options;
use model_experiments::error::Transient;
use model_experiments::recording::Outcome;
use model_experiments::{Error, RecorderOptions};
use std::time::Duration;

/// A timeout for which a test waits.
const SHORT: Duration = Duration::from_millis(500);

#[tokio::test]
async fn records_of_an_outage_are_recorded_after_it() {
    for mode in both_modes() {
        let (db, mut conn, version) = database().await;
        let network = Network::to(&db.url()).await;
        let (log, _guard) = Log::of_thread();
        let recorder = start(&options(network.url()), mode).await;
        network.cut();
        let receipts = burst(&recorder, (0..100).map(|_| record(version)));
        until_retried(&log).await;
        assert_eq!(recorder.len(), 100);
        assert_eq!(recorded(&mut conn).await, Recorded::NONE);
        network.mend();
        all_recorded(receipts).await;
        assert_eq!(recorded(&mut conn).await, Recorded::both(100));
        assert_eq!(log.errors(), [""; 0]);
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found() {
    for mode in both_modes() {
        let (db, mut conn, version) = database().await;
        let network = Network::to(&db.url()).await;
        let recorder = start(&options(network.url()), mode).await;
        // Prepares the statement: preparing it would wait for the lock, too.
        all_recorded(burst(&recorder, (0..10).map(|_| record(version)))).await;
        let holder = lock(&db, "model_experiment_request").await;
        let receipts = burst(&recorder, (0..10).map(|_| record(version)));
        until_blocked(&mut conn).await;
        network.cut();
        // The server doesn't know that the client is gone, and goes on with the statement.
        unlock(holder).await;
        eventually("it is committed", async || recorded(&mut conn).await == Recorded::both(20))
            .await;
        network.mend();
        for receipt in receipts {
            assert_eq!(answer(receipt).await, Ok(Outcome::AlreadyRecorded));
        }
        assert_eq!(recorded(&mut conn).await, Recorded::both(20));
    }
}

#[tokio::test]
async fn a_statement_whose_process_is_ended_is_repeated() {
    for options in both_modes() {
        repeats_a_statement_whose_process_is_ended(database().await, options).await;
    }
}

pub async fn repeats_a_statement_whose_process_is_ended(
    (db, mut conn, version): Database,
    options: RecorderOptions,
) {
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

#[tokio::test]
async fn a_statement_that_takes_too_long_delays_its_own_record_alone() {
    for options in both_modes() {
        delays_a_slow_record_alone(database().await, options).await;
    }
}

pub async fn delays_a_slow_record_alone(
    (db, mut conn, version): Database,
    options: RecorderOptions,
) {
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(600); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON microdollar_usage
            FOR EACH ROW WHEN (NEW.cost = 7) EXECUTE FUNCTION slow()";
    raw(&mut conn, slow).await.unwrap();
    let recorder = start(&db.options(), options.write_timeout(SHORT)).await;
    let slow = burst(&recorder, [costing(7, version)]);
    for _ in 0..3 {
        all_recorded(burst(&recorder, (0..10).map(|_| record(version)))).await;
    }
    assert_eq!(recorded(&mut conn).await, Recorded::both(30));
    raw(&mut conn, "DROP FUNCTION slow CASCADE").await.unwrap();
    all_recorded(slow).await;
}

#[tokio::test]
async fn a_silent_network_counts_as_lost() {
    let (db, mut conn, version) = database().await;
    let network = Network::to(&db.url()).await;
    let (log, _guard) = Log::of_thread();
    let recorder =
        start(&options(network.url()), RecorderOptions::default().write_timeout(2 * SHORT)).await;
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
        // The statement may have been committed before.
        assert!(answer(receipt).await.is_ok());
    }
    assert_eq!(recorded(&mut conn).await, Recorded::both(3));
}

#[tokio::test]
async fn a_deadlock_is_retried() {
    let (log, _guard) = Log::of_thread();
    repeats_a_statement_of_a_deadlock(database().await).await;
    let lines = log.lines();
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.contains(RETRIED) && line.contains("aborted in a deadlock"), "{line}");
}

pub async fn repeats_a_statement_of_a_deadlock((db, mut conn, version): Database) {
    let impatient = option(&db.url(), "options=-c%20deadlock_timeout%3D10ms");
    let recorder = start(&options(&impatient), RecorderOptions::default()).await;
    let mut given = [(); 3].map(|()| record(version));
    given.sort_by_key(|record| record.usage.id);
    let [first, second, third] = given.clone().map(|record| record.usage);
    // Other sessions hold the second and the third. The recorder gets the first, and waits.
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
    let deadlocks = "SELECT deadlocks AS number FROM pg_stat_database
        WHERE datname = current_database()";
    eventually("a deadlock is counted", async || number(&mut conn, deadlocks).await == 1).await;
    assert_eq!(recorder.shutdown(LONG).await, []);
}

#[tokio::test]
async fn writers_never_wait_for_each_other_in_a_circle() {
    let (log, _guard) = Log::of_thread();
    let (db, mut conn, version) = database().await;
    let one = start(&db.options(), RecorderOptions::default()).await;
    let other = start(&db.options(), RecorderOptions::default()).await;
    let mut given = [(); 3].map(|()| record(version));
    given.sort_by_key(|record| record.usage.id);
    let [first, second, third] = given;
    // Another session holds the second. If the recorders wrote in the order given, one would hold
    // the third and wait for the first, and the other would hold the first and wait for the third.
    let holder = hold(&db, &second.usage).await;
    let mut receipts = burst(&one, [third.clone(), second, first.clone()]);
    until_blocked(&mut conn).await;
    receipts.extend(burst(&other, [first, third]));
    until_many_blocked(&mut conn, 2).await;
    unlock(holder).await;
    for receipt in receipts {
        assert!(answer(receipt).await.is_ok());
    }
    assert_eq!(recorded(&mut conn).await, Recorded::both(3));
    assert_eq!(log.lines(), [""; 0]);
}

#[tokio::test]
async fn no_record_fails_to_serialize_where_transactions_are_serializable_by_default() {
    let (log, _guard) = Log::of_thread();
    let (db, mut conn, version) = database().await;
    let strict = option(&db.url(), "options=-c%20default_transaction_isolation%3Dserializable");
    let recorder = start(&options(&strict), RecorderOptions::default()).await;
    let given = record(version);
    let mut holder = hold(&db, &given.usage).await;
    let receipts = burst(&recorder, [given, record(version)]);
    until_blocked(&mut conn).await;
    raw(&mut holder, "COMMIT").await.unwrap();
    all_recorded(receipts).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(2));
    assert_eq!(log.lines(), [""; 0]);
}

#[tokio::test]
async fn a_database_that_is_read_only_by_default_is_written() {
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    all_recorded(burst(&recorder, [record(version)])).await;
    let name = text(&mut conn, "SELECT current_database() AS text").await;
    let end = format!("SELECT pg_terminate_backend(pid) {BACKENDS}");
    let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on; {end}");
    raw(&mut conn, &read_only).await.unwrap();
    all_recorded(burst(&recorder, [record(version)])).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(2));
}

#[tokio::test]
async fn records_come_back_when_their_time_is_over() {
    for is_cut in [true, false] {
        let (log, _guard) = Log::of_thread();
        let (db, mut conn, version) = database().await;
        let network = Network::to(&db.url()).await;
        let limits = RecorderOptions::default()
            .max_batch(2)
            .max_records(8)
            .retry_for(SHORT)
            .write_timeout(2 * SHORT);
        let recorder = start(&options(network.url()), limits).await;
        if is_cut {
            network.cut();
        } else {
            network.silence();
        }
        let given = [(); 8].map(|()| record(version));
        let mut receipts = burst(&recorder, given.clone()).into_iter();
        let mut ends = vec![answer(receipts.next().unwrap()).await];
        // Records that wait come back together with those that were being written.
        ends.extend(all_answered(receipts));
        for (record, end) in given.into_iter().zip(ends) {
            let not = end.unwrap_err();
            assert_eq!(*not.record, record);
            assert!(not.error.is_retryable(), "{not}");
            assert!(
                matches!(not.error, Error::Transient { kind: Transient::ConnectionLost, .. }),
                "{not}"
            );
        }
        assert!(log.lines().iter().any(|line| line.contains("before their deadline")));
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
