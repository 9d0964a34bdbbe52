//! Checks that each fault of the proxy does what its name says.

use model_experiments::recording::{self, Outcome, Usage};
use model_experiments::values::VersionId;
use model_experiments::{Result, uuid};
use std::time::{Duration, Instant};

use crate::support;
use crate::support::fixtures::{eventually, number, record_one, request};
use crate::wire::{Fault, Proxy};

/// The effect of a fault on a statement.
#[derive(Debug, PartialEq)]
enum Effect {
    /// An error for the caller; the usage is not there.
    NotWritten,
    /// An error for the caller; the usage is there.
    Written,
    /// An error for the caller; the usage may be there.
    Unknown,
    /// No error, but a delay.
    Delayed,
}

/// How long a stall lasts here.
const STALL: Duration = Duration::from_millis(200);

/// Breaks one statement by each fault, on the database of `url`.
pub async fn run(url: &str, version: VersionId) {
    let proxy = Proxy::to(url).await;
    for (fault, expected) in [
        (Fault::CutBefore, Effect::NotWritten),
        (Fault::CutExecuting, Effect::NotWritten),
        (Fault::CutUncommitted, Effect::NotWritten),
        (Fault::CutCommitting(Duration::ZERO), Effect::Unknown),
        (Fault::CutAnswering, Effect::Written),
        (Fault::CutAfter, Effect::Written),
        (Fault::StallBefore(STALL), Effect::Delayed),
        (Fault::StallExecuting(STALL), Effect::Delayed),
        (Fault::StallAfter(STALL), Effect::Delayed),
        (Fault::Refuse, Effect::NotWritten),
        (Fault::StallConnect(STALL), Effect::Delayed),
    ] {
        let start = Instant::now();
        let mut fired = proxy.arm(fault, 0);
        let usage = Usage::new("user-1");
        let outcome = record(proxy.url(), version, &usage).await;
        assert!(fired.try_recv().is_ok(), "{fault:?} {outcome:?}");
        let is_written = is_written(url, &usage).await;
        match &outcome {
            Ok(_) => assert!(expected == Effect::Delayed && start.elapsed() >= STALL, "{fault:?}"),
            Err(error) => assert!(expected != Effect::Delayed && error.is_retryable(), "{error:?}"),
        }
        match expected {
            Effect::NotWritten => assert!(!is_written, "{fault:?}"),
            Effect::Written | Effect::Delayed => assert!(is_written, "{fault:?}"),
            Effect::Unknown => {}
        }
    }
    for fault in [Fault::StallBefore(STALL), Fault::Silence] {
        abandon(url, version, &proxy, fault).await;
    }
    assert!(proxy.errors().is_empty(), "{:?}", proxy.errors());
    let unknown_version = uuid::Uuid::nil().into();
    assert!(record(proxy.url(), unknown_version, &Usage::new("user-1")).await.is_err());
    assert_eq!(proxy.errors(), [("23503".to_owned(), 1)].into());
}

/// Checks that a statement arrives although its caller no longer waits.
async fn abandon(url: &str, version: VersionId, proxy: &Proxy, fault: Fault) {
    let fired = proxy.arm(fault, 0);
    let usage = Usage::new("user-1");
    tokio::select! {
        biased;
        _ = record(proxy.url(), version, &usage) => panic!("{fault:?} had no effect"),
        fired = fired => fired.unwrap(),
    }
    let conn = &mut support::connect(url).await.unwrap();
    let sql = format!("SELECT count(*) AS number FROM microdollar_usage WHERE id = '{}'", usage.id);
    eventually("the statement arrives", async || number(conn, &sql).await == 1).await;
}

async fn record(url: &str, version: VersionId, usage: &Usage) -> Result<Outcome> {
    record_one(&mut support::connect(url).await?, usage, &request(version)).await
}

/// Whether the usage is there, once all other statements have ended.
async fn is_written(url: &str, usage: &Usage) -> bool {
    let conn = &mut support::connect(url).await.unwrap();
    let others = "SELECT count(*) AS number FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'";
    eventually("other statements have ended", async || number(conn, others).await == 0).await;
    recording::find_usage(conn, usage.id).await.unwrap().is_some()
}
