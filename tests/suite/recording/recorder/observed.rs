//! Logs and metrics of a recorder, and what `Debug` shows.

use crate::recording::recorder::{
    LONG, RETRIED, all_recorded, answer, burst, database, lock, missing, record, start, unlock,
    until_empty,
};
use crate::support::fixtures::{eventually, until_blocked};
use crate::support::log::Log;
use crate::support::metrics::values;
use crate::support::network::Network;
use crate::support::options;
use metrics_util::debugging::DebuggingRecorder;
use model_experiments::recording::{Outcome, Record, Usage};
use model_experiments::{Error, RecorderOptions};
use std::time::Duration;
use tokio::task::yield_now;

/// The prefix of the recorder's metrics.
const METRICS: &str = "model_experiments_recorder_";

#[tokio::test]
async fn counts_what_it_does() {
    let debugging = DebuggingRecorder::new();
    let snapshotter = debugging.snapshotter();
    let _guard = metrics::set_default_local_recorder(&debugging);
    let (db, mut conn, version) = database().await;
    let recorder =
        start(&db.options(), RecorderOptions::default().max_batch(10).max_records(10)).await;
    let known = record(version);
    all_recorded(burst(&recorder, [known.clone()])).await;
    let holder = lock(&db, "model_experiment_request").await;
    let other = Record::new(Usage { cost: 7, ..known.usage.clone() }, known.request.clone());
    let mut given = vec![known, other, record(missing())];
    given.extend((0..7).map(|_| record(version)));
    let receipts = burst(&recorder, given);
    let not = recorder.try_submit(record(version)).unwrap_err();
    assert_eq!(not.error, Error::RecorderFull);
    until_blocked(&mut conn).await;
    let meanwhile = values(&snapshotter, METRICS);
    assert_eq!((meanwhile["held_records"], meanwhile["refused_total"]), (10.0, 1.0));
    let bytes = meanwhile["held_bytes"];
    assert!(bytes > 10.0 * size_of::<Record>() as f64 && bytes < 10_000.0, "{bytes}");
    unlock(holder).await;
    let mut ends = Vec::new();
    for receipt in receipts {
        ends.push(answer(receipt).await);
    }
    assert_eq!(ends.iter().filter(|end| **end == Ok(Outcome::Recorded)).count(), 7);
    until_empty(&recorder).await;

    let mut seen = values(&snapshotter, METRICS);
    assert!(seen.remove("batch_seconds both").unwrap() > 0.0);
    let expected = [
        ("batch_records both", 0.0),
        ("held_bytes", 0.0),
        ("records_total already_recorded", 1.0),
        ("records_total failed", 2.0),
        ("records_total not_attributed", 0.0),
        ("records_total recorded", 7.0),
        ("refused_total", 0.0),
        ("retries_total both", 0.0),
        ("held_records", 0.0),
    ];
    assert_eq!(meanwhile["batch_records both"], 11.0);
    assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value)).into());
}

#[tokio::test]
async fn counts_each_part_where_billing_comes_first() {
    let debugging = DebuggingRecorder::new();
    let snapshotter = debugging.snapshotter();
    let _guard = metrics::set_default_local_recorder(&debugging);
    let (db, _conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default().billing_first(true)).await;
    let given = [version, missing(), version].map(record);
    for receipt in burst(&recorder, given) {
        let _outcome = answer(receipt).await;
    }
    until_empty(&recorder).await;
    let seen = values(&snapshotter, METRICS);
    for (name, value) in [
        ("batch_records usage", 3.0),
        ("batch_records request", 3.0),
        ("records_total failed", 0.0),
        ("records_total not_attributed", 1.0),
        ("records_total recorded", 2.0),
        ("held_records", 0.0),
        ("held_bytes", 0.0),
    ] {
        assert_eq!(seen[name], value, "{name}");
    }
}

#[tokio::test]
async fn an_outage_is_seen_while_it_lasts() {
    let (log, _log_guard) = Log::of_thread();
    let debugging = DebuggingRecorder::new();
    let snapshotter = debugging.snapshotter();
    let _guard = metrics::set_default_local_recorder(&debugging);
    let (db, _conn, version) = database().await;
    let network = Network::to(&db.url()).await;
    let recorder = start(&options(network.url()), RecorderOptions::default()).await;
    network.cut();
    let mut receipts = burst(&recorder, [record(version)]);
    let mut retries = 0.0;
    let mut until_retried = async |rows: f64| {
        eventually("it is seen", async || {
            yield_now().await;
            let seen = values(&snapshotter, METRICS);
            retries += seen["retries_total both"];
            retries >= 1.0 && seen["held_records"] == rows
        })
        .await;
    };
    until_retried(1.0).await;
    receipts.extend(burst(&recorder, [record(version), record(version)]));
    until_retried(3.0).await;
    let lines = log.lines();
    assert!(lines.iter().all(|line| line.contains(" WARN ")), "{lines:?}");
    assert!(lines.iter().all(|line| line.contains(RETRIED)), "{lines:?}");
    network.mend();
    all_recorded(receipts).await;
    assert_eq!(recorder.shutdown(LONG).await, []);
    assert_eq!(values(&snapshotter, METRICS)["held_records"], 0.0);
}

#[tokio::test]
async fn records_that_come_back_at_a_shutdown_are_no_longer_counted_as_held() {
    let debugging = DebuggingRecorder::new();
    let snapshotter = debugging.snapshotter();
    let _guard = metrics::set_default_local_recorder(&debugging);
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default().max_batch(2)).await;
    let holder = lock(&db, "microdollar_usage").await;
    let receipts = burst(&recorder, (0..6).map(|_| record(version)));
    until_blocked(&mut conn).await;
    assert_eq!(recorder.shutdown(Duration::ZERO).await.len(), 6);
    let seen = values(&snapshotter, METRICS);
    assert_eq!((seen["held_records"], seen["held_bytes"]), (0.0, 0.0));
    assert_eq!(seen["records_total failed"], 6.0);
    assert_eq!(receipts.len(), 6);
    unlock(holder).await;
}

#[tokio::test]
async fn shows_nothing_of_what_it_holds() {
    let (db, mut conn, version) = database().await;
    let recorder = start(&db.options(), RecorderOptions::default()).await;
    let holder = lock(&db, "microdollar_usage").await;
    let receipts = burst(&recorder, [record(version)]);
    until_blocked(&mut conn).await;
    assert_eq!(format!("{recorder:?}"), "Recorder { len: 1, .. }");
    unlock(holder).await;
    all_recorded(receipts).await;
}
