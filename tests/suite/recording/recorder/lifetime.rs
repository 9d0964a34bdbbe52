//! How a recorder starts, and what it leaves behind.

use crate::recording::recorder::{
    BACKENDS, LONG, NEVER, all_recorded, both_modes, burst, database, record, start,
};
use crate::support::fixtures::{Recorded, eventually, free_port, number, recorded};
use crate::support::{TestDatabase, options};
use model_experiments::error::Transient;
use model_experiments::{ConnectOptions, Error, Recorder, RecorderOptions};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::yield_now;

async fn refusal(connect: &ConnectOptions, options: RecorderOptions) -> Error {
    Recorder::start(connect, options).await.unwrap_err()
}

#[tokio::test]
async fn starts_only_where_it_can_connect() {
    let unreachable = format!("postgres://gateway:hunter2@127.0.0.1:{}/app", free_port());
    let error = refusal(&options(&unreachable), RecorderOptions::default()).await;
    assert!(matches!(error, Error::Transient { kind: Transient::ConnectionLost, .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let unusable = options("postgres://db.example/app").application_name("a\0");
    let error = refusal(&unusable, RecorderOptions::default()).await;
    assert!(matches!(error, Error::Configuration(_)), "{error}");
    let db = TestDatabase::empty().await;
    let gone = db.options();
    drop(db);
    let error = refusal(&gone, RecorderOptions::default()).await;
    assert!(matches!(error, Error::Configuration(_)), "{error}");
}

#[tokio::test]
async fn impossible_options_are_refused() {
    let connect = options("postgres://db.example/app");
    let second = Duration::from_secs(1);
    for (options, rule) in [
        (RecorderOptions::default().writers(0), "writers must be"),
        (RecorderOptions::default().writers(65), "writers must be"),
        (RecorderOptions::default().max_batch(0), "max_batch must be"),
        (RecorderOptions::default().max_batch(10_001).max_records(20_000), "max_batch must be"),
        (RecorderOptions::default().max_batch(100).max_records(99), "max_records must be"),
        (RecorderOptions::default().max_bytes((1 << 20) - 1), "max_bytes must be"),
        (RecorderOptions::default().max_delay(second).retry_for(second), "retry_for must be"),
        (RecorderOptions::default().retry_for(Duration::ZERO), "retry_for must be"),
        (
            RecorderOptions::default().max_delay(Duration::MAX / 2).retry_for(Duration::MAX),
            "max_delay must be",
        ),
        (RecorderOptions::default().write_timeout(Duration::ZERO), "write_timeout must be"),
    ] {
        match refusal(&connect, options).await {
            Error::Configuration(cause) => assert!(cause.message().contains(rule), "{cause}"),
            error => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn the_widest_and_the_narrowest_options_are_taken() {
    let (db, mut conn, version) = database().await;
    let wide =
        RecorderOptions::default().max_batch(10_000).max_records(usize::MAX).max_bytes(usize::MAX);
    let narrow = RecorderOptions::default().max_batch(1).max_records(1).max_bytes(1 << 20);
    for options in [wide.retry_for(Duration::MAX), narrow] {
        let recorder = start(&db.options(), options).await;
        all_recorded(burst(&recorder, [record(version)])).await;
        assert_eq!(recorder.shutdown(LONG).await, []);
    }
    assert_eq!(recorded(&mut conn).await, Recorded::both(2));
}

#[tokio::test]
async fn leaves_neither_a_task_nor_a_connection_behind() {
    let (db, mut watcher, version) = database().await;
    let count = format!("SELECT count(*) AS number {BACKENDS}");
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for options in both_modes() {
        for is_shut_down in [true, false] {
            let options = options.clone().writers(3).max_delay(NEVER).retry_for(2 * NEVER);
            let recorder = start(&db.options(), options).await;
            assert!(tasks() > before);
            let receipts = burst(&recorder, (0..10).map(|_| record(version)));
            if is_shut_down {
                assert_eq!(recorder.shutdown(LONG).await, []);
            } else {
                drop(recorder);
            }
            all_recorded(receipts).await;
            eventually("its tasks are over", async || {
                yield_now().await;
                tasks() == before
            })
            .await;
            eventually("its connections are closed", async || {
                number(&mut watcher, &count).await == 0
            })
            .await;
        }
    }
}
