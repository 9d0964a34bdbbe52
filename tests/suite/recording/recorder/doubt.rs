//! Errors that may concern one record or all of them: no record fails for another's fault.

use crate::recording::recorder::{
    LONG, all_recorded, answer, both_modes, burst, burst_of, costing, database, record, start,
    unlock, until_empty, until_retried, until_retried_often,
};
use crate::support::fixtures::{
    Recorded, assert_database_error, eventually, insert_usage, raw, recorded,
};
use crate::support::log::Log;
use diesel_async::AsyncPgConnection;
use futures_util::FutureExt;
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit,
};
use model_experiments::{Error, RecorderOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::timeout;

/// Makes the server refuse usages for which `condition` holds, with `message`.
pub async fn refuse(conn: &mut AsyncPgConnection, level: &str, condition: &str, message: &str) {
    let trigger = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $f$ BEGIN RAISE EXCEPTION '%', $m${message}$m$; END $f$;
        CREATE TRIGGER refuse BEFORE INSERT ON microdollar_usage
            FOR EACH {level} WHEN ({condition}) EXECUTE FUNCTION refuse()"
    );
    raw(conn, &trigger).await.unwrap();
}

#[tokio::test]
async fn trouble_of_the_server_is_waited_out_whatever_its_message() {
    for message in [
        "connection to the remote node worker-1:5432 failed",
        "canceling the transaction since it was involved in a distributed deadlock",
        "database is not accepting commands to avoid wraparound data loss",
        "could not read block 7 in file \"base/5/16384\": Input/output error",
        "cached plan must not change result type",
    ] {
        for records in [1, 8] {
            let (log, _guard) = Log::of_thread();
            let (db, mut conn, version) = database().await;
            let recorder = start(&db.options(), RecorderOptions::default()).await;
            all_recorded(burst(&recorder, [record(version)])).await;
            refuse(&mut conn, "STATEMENT", "true", message).await;
            let receipts = burst(&recorder, (0..records).map(|_| record(version)));
            // One was refused alone more than twice, and no other was recorded meanwhile.
            until_retried_often(&log, 4).await;
            raw(&mut conn, "DROP FUNCTION refuse CASCADE").await.unwrap();
            all_recorded(receipts).await;
            assert_eq!(recorded(&mut conn).await, Recorded::both(records + 1));
        }
    }
}

#[tokio::test]
async fn a_batch_leaves_for_later_only_what_was_refused_alone() {
    let (log, _guard) = Log::of_thread();
    let (db, mut conn, version) = database().await;
    refuse(&mut conn, "ROW", "NEW.cost = 7", "no sevens").await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    // The first half is written, and each quarter of the second has a record that is refused.
    let costs = [0, 0, 0, 0, 7, 0, 7, 0];
    let receipts = burst(&recorder, costs.map(|cost| costing(cost, version)));
    for (cost, receipt) in costs.into_iter().zip(receipts) {
        assert_eq!(answer(receipt).await.is_ok(), cost == 0);
    }
    let lines = log.lines();
    let first = lines.iter().find(|line| line.contains("will be retried"));
    assert!(first.is_some_and(|line| line.contains("records=2")), "{lines:#?}");
}

#[tokio::test]
async fn refused_records_come_back_at_once_and_the_others_are_recorded() {
    for options in both_modes() {
        let (db, mut conn, version) = database().await;
        refuse(&mut conn, "ROW", "NEW.cost = 7", "no sevens").await;
        // Deadlines are ten minutes away.
        let recorder = start(&db.options(), options).await;
        for round in 0..4 {
            let is_refused = |at: usize| at % 4 == round;
            let given = (0..100).map(|at| costing(if is_refused(at) { 7 } else { 0 }, version));
            for (at, receipt) in burst(&recorder, given).into_iter().enumerate() {
                let end = answer(receipt).await.map_err(Error::from);
                if is_refused(at) {
                    assert_database_error(end, "no sevens");
                } else {
                    assert!(end.is_ok(), "{at}: {end:?}");
                }
            }
        }
        assert!(recorder.is_empty());
        assert_eq!(recorded(&mut conn).await, Recorded::both(300));
    }
}

#[tokio::test]
async fn a_few_refused_records_of_a_batch_come_back_at_once() {
    for refused in [vec![0], vec![63], vec![62, 63], vec![0, 3, 31, 63]] {
        let (db, mut conn, version) = database().await;
        refuse(&mut conn, "ROW", "NEW.cost = 7", "no sevens").await;
        let recorder = start(&db.options(), RecorderOptions::default()).await;
        let cost = |at| if refused.contains(&at) { 7 } else { 0 };
        let given = (0..64).map(|at| costing(cost(at), version));
        for (at, receipt) in burst(&recorder, given).into_iter().enumerate() {
            let end = answer(receipt).await.map_err(Error::from);
            if refused.contains(&at) {
                assert_database_error(end, "no sevens");
            } else {
                assert!(end.is_ok(), "{at}: {end:?}");
            }
        }
        assert_eq!(recorded(&mut conn).await, Recorded::both(64 - refused.len() as i64));
    }
}

#[tokio::test]
async fn a_refused_record_waits_until_another_is_recorded_and_delays_none() {
    let (log, _guard) = Log::of_thread();
    let (db, mut conn, version) = database().await;
    refuse(&mut conn, "ROW", "NEW.cost = 7", "no sevens").await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    let mut alone = recorder.try_submit(costing(7, version)).unwrap();
    // The database may refuse all.
    until_retried(&log).await;
    assert!((&mut alone).now_or_never().is_none());
    all_recorded(burst(&recorder, [record(version)])).await;
    assert_database_error(answer(alone).await.map_err(Error::from), "no sevens");
    assert_eq!(recorded(&mut conn).await, Recorded::both(1));
}

#[tokio::test]
async fn records_are_kept_while_all_are_refused() {
    let (log, _guard) = Log::of_thread();
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    all_recorded(burst(&recorder, [record(version)])).await;
    refuse(&mut conn, "ROW", "true", "the ledger is closed").await;
    let mut receipts = Vec::new();
    for _ in 0..3 {
        receipts.extend(burst(&recorder, (0..100).map(|_| record(version))));
        let retried = log.lines().len();
        eventually("they are retried", async || {
            yield_now().await;
            log.lines().len() >= retried + 3
        })
        .await;
    }
    assert_eq!(recorder.len(), 300);
    raw(&mut conn, "DROP FUNCTION refuse CASCADE").await.unwrap();
    all_recorded(receipts).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(301));
}

#[tokio::test]
async fn a_refused_request_comes_back_at_once_where_billing_comes_first() {
    let (db, mut conn, version) = database().await;
    let trigger = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'not this client'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON model_experiment_request
            FOR EACH ROW WHEN (NEW.client_request_id = 'bad') EXECUTE FUNCTION refuse()";
    raw(&mut conn, trigger).await.unwrap();
    let recorder = start(&db.options(), RecorderOptions::default().billing_first(true)).await;
    let mut bad = record(version);
    bad.request = bad.request.client_request_id("bad");
    let [first, of_bad, last] = burst_of(&recorder, [record(version), bad, record(version)]);
    all_recorded([first, last]).await;
    match answer(of_bad).await.unwrap_err().error {
        Error::NotAttributed { reason, .. } => {
            assert_database_error::<()>(Err(*reason), "not this client");
        }
        error => panic!("{error:?}"),
    }
    assert_eq!(recorded(&mut conn).await, Recorded { usages: 3, requests: 2 });
}

#[tokio::test]
async fn records_that_another_session_holds_keep_no_other_from_being_written() {
    let (db, mut conn, version) = database().await;
    let options =
        RecorderOptions::default().write_timeout(Duration::from_millis(300)).max_batch(50);
    let recorder = start(&db.options(), options).await;
    let given: Vec<_> = (0..100).map(|_| record(version)).collect();
    let held = [0, 49, 99];
    let mut holder = db.connect().await;
    raw(&mut holder, "BEGIN").await.unwrap();
    for at in held {
        assert!(insert_usage(&mut holder, &given[at].usage).await);
    }
    let (mut of_held, mut others) = (Vec::new(), Vec::new());
    for (at, receipt) in burst(&recorder, given).into_iter().enumerate() {
        if held.contains(&at) { of_held.push(receipt) } else { others.push(receipt) }
    }
    all_recorded(others).await;
    assert_eq!(recorder.len(), held.len());
    unlock(holder).await;
    all_recorded(of_held).await;
    until_empty(&recorder).await;
    assert_eq!(recorded(&mut conn).await, Recorded::both(100));
}

/// A host's metrics, one of which panics once.
struct Panicking {
    metric: &'static str,
    is_armed: Arc<AtomicBool>,
}

struct PanicOnce(Arc<AtomicBool>);

impl PanicOnce {
    fn run(&self) {
        assert!(!self.0.swap(false, Ordering::SeqCst), "the host's own");
    }
}

impl CounterFn for PanicOnce {
    fn increment(&self, _: u64) {
        self.run();
    }

    fn absolute(&self, _: u64) {}
}

impl HistogramFn for PanicOnce {
    fn record(&self, _: f64) {
        self.run();
    }
}

impl metrics::Recorder for Panicking {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name().ends_with(self.metric) {
            Counter::from_arc(Arc::new(PanicOnce(Arc::clone(&self.is_armed))))
        } else {
            Counter::noop()
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        if key.name().ends_with(self.metric) {
            Histogram::from_arc(Arc::new(PanicOnce(Arc::clone(&self.is_armed))))
        } else {
            Histogram::noop()
        }
    }
}

#[tokio::test]
async fn a_panic_of_the_hosts_metrics_is_survived_and_no_answer_is_wrong() {
    for is_billing_first in [false, true] {
        for metric in ["records_total", "batch_records", "batch_seconds"] {
            let is_armed = Arc::new(AtomicBool::new(true));
            let host = Panicking { metric, is_armed: Arc::clone(&is_armed) };
            let _guard = metrics::set_default_local_recorder(&host);
            let (db, mut conn, version) = database().await;
            let recorder =
                start(&db.options(), RecorderOptions::default().billing_first(is_billing_first))
                    .await;
            let receipts = burst(&recorder, [(); 3].map(|()| record(version)));
            for receipt in receipts {
                let end = timeout(LONG, receipt).await.expect("it is answered");
                assert!(end.is_ok(), "{end:?}");
            }
            until_empty(&recorder).await;
            assert!(!is_armed.load(Ordering::SeqCst), "{metric} didn't panic");
            all_recorded(burst(&recorder, [record(version)])).await;
            assert_eq!(recorded(&mut conn).await, Recorded::both(4), "{metric}");
        }
    }
}
