//! That each fault does what it is named after, seen with a connection of one's own: else the rest
//! proves nothing.

use model_experiments::Result;
use model_experiments::recording::{self, Record, Usage, record};
use model_experiments::values::VersionId;
use std::time::{Duration, Instant};

use crate::support::connect;
use crate::support::fixtures::{eventually, number, request};
use crate::wire::{Fault, Wire};

/// What a statement that meets a fault leaves.
#[derive(Debug, PartialEq)]
enum Left {
    /// An error for the caller, and nothing else.
    Nothing,
    /// An error for the caller, and the row.
    Row,
    /// An error for the caller, and nobody knows what else.
    Perhaps,
    /// What it would have left without.
    Everything,
}

/// How long a stall lasts here.
const STALL: Duration = Duration::from_millis(200);

/// Breaks a statement of each kind on the database of `url`, which has the version.
pub async fn check(url: &str, version: VersionId) {
    let wire = Wire::to(url).await;
    for (fault, expected) in [
        (Fault::CutBefore, Left::Nothing),
        (Fault::CutExecuting, Left::Nothing),
        (Fault::CutUncommitted, Left::Nothing),
        (Fault::CutCommitting(Duration::ZERO), Left::Perhaps),
        (Fault::CutAnswering, Left::Row),
        (Fault::CutAfter, Left::Row),
        (Fault::StallBefore(STALL), Left::Everything),
        (Fault::StallExecuting(STALL), Left::Everything),
        (Fault::StallAfter(STALL), Left::Everything),
        (Fault::Refuse, Left::Nothing),
        (Fault::StallConnect(STALL), Left::Everything),
    ] {
        let start = Instant::now();
        let mut fired = wire.arm(fault, 0);
        let usage = Usage::new("user-1");
        let recorded = record(wire.url(), version, &usage).await;
        assert!(fired.try_recv().is_ok(), "{fault:?} {recorded:?}");
        let is_there = is_there(url, &usage).await;
        match expected {
            Left::Everything => assert!(recorded.is_ok() && is_there && start.elapsed() >= STALL),
            _ => assert!(recorded.clone().unwrap_err().is_retryable(), "{recorded:?}"),
        }
        match expected {
            Left::Nothing => assert!(!is_there, "{fault:?}"),
            Left::Row => assert!(is_there, "{fault:?}"),
            Left::Perhaps | Left::Everything => {}
        }
    }
    for fault in [Fault::StallBefore(STALL), Fault::Silence] {
        abandoned(url, version, &wire, fault).await;
    }
    assert_eq!(wire.errors().into_iter().collect::<Vec<_>>(), []);
    let missing = record(wire.url(), uuid::Uuid::nil().into(), &Usage::new("user-1")).await;
    assert!(missing.is_err());
    assert_eq!(wire.errors().into_iter().collect::<Vec<_>>(), [("23503".to_owned(), 1)]);
}

/// What was sent is there in the end, although nobody waits for it any more.
async fn abandoned(url: &str, version: VersionId, wire: &Wire, fault: Fault) {
    let fired = wire.arm(fault, 0);
    let usage = Usage::new("user-1");
    tokio::select! {
        biased;
        _ = record(wire.url(), version, &usage) => panic!("{fault:?} let it through"),
        fired = fired => fired.unwrap(),
    }
    let conn = &mut connect(url).await.unwrap();
    let sql = format!("SELECT count(*) AS number FROM microdollar_usage WHERE id = '{}'", usage.id);
    eventually("it arrives", async || number(conn, &sql).await == 1).await;
}

async fn record(url: &str, version: VersionId, usage: &Usage) -> Result<()> {
    let conn = &mut connect(url).await?;
    record::one(conn, &Record::new(usage.clone(), request(version))).await.map(drop)
}

/// Whether the usage is there once no other connection is under way.
async fn is_there(url: &str, usage: &Usage) -> bool {
    let conn = &mut connect(url).await.unwrap();
    let others = "SELECT count(*) AS number FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'";
    eventually("the others have ended", async || number(conn, others).await == 0).await;
    recording::find_usage(conn, usage.id).await.unwrap().is_some()
}
