//! Injection of faults into the server and the proxy.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Error, NoTls};

use crate::ledger::{Answer, Content};
use crate::plan::{self, Fault, PlannedFault};
use crate::tested_recorder::{TestedRecorder, WRITE_TIMEOUT};
use crate::wire;

/// How long a fault waits for a statement or a connection to break.
const FAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Injects one fault after the other until it is told to stop.
pub async fn run(tested: Arc<TestedRecorder>, mut runner: TestRunner, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let PlannedFault { after, fault } = plan::fault().new_tree(&mut runner).unwrap().current();
        let injected = match fault {
            Fault::Wire(fault) => {
                break_connection(&tested, fault, after).await;
                Ok(())
            }
            Fault::Terminate => terminate(&tested).await,
            Fault::Deadlock => deadlock(&tested).await,
            Fault::DiskFull(statements) => fill_disk(&tested, statements).await,
            Fault::Lock(time) => lock(&tested, time).await,
        };
        // The injector's own connection fails when the server is killed.
        drop(injected);
    }
}

async fn break_connection(tested: &TestedRecorder, fault: wire::Fault, after: usize) {
    let is_of_connection = matches!(fault, wire::Fault::Refuse | wire::Fault::StallConnect(_));
    let fired = tested.proxy.arm(fault, if is_of_connection { 0 } else { after });
    // Another cut makes the recorder connect again.
    let cut = is_of_connection.then(|| tested.proxy.arm(wire::Fault::CutBefore, after));
    // The time runs out if nobody connects or records.
    let _ = timeout(FAULT_TIMEOUT, fired).await;
    drop(cut);
}

async fn terminate(tested: &TestedRecorder) -> Result<(), Error> {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM (
        SELECT pid FROM pg_stat_activity WHERE application_name = $1
        ORDER BY state = 'active' DESC, random() LIMIT 1) AS one";
    connect(tested).await?.execute(sql, &[&tested.name]).await.map(drop)
}

/// Inserts the second of two usages, lets the recorder insert both and wait, and inserts the first.
async fn deadlock(tested: &TestedRecorder) -> Result<(), Error> {
    let (host, watcher) = (connect(tested).await?, connect(tested).await?);
    // The recorder detects the deadlock first, so that the server aborts the recorder's statement.
    host.batch_execute("SET deadlock_timeout = '5s'; SET lock_timeout = '3s'; BEGIN").await?;
    let (first, second) =
        (Content::new(tested.database.version), Content::new(tested.database.version));
    let (first_id, second_id) = (*first.usage.id.as_uuid(), *second.usage.id.as_uuid());
    let insert = "INSERT INTO microdollar_usage
        (id, kilo_user_id, cost, input_tokens, output_tokens, cache_write_tokens, cache_hit_tokens)
        VALUES ($1, 'host', 0, 0, 0, 0, 0)";
    host.execute(insert, &[&second_id]).await?;
    for content in [first, second] {
        let record = content.record();
        let ledger = &tested.database.ledger;
        let number = ledger.submit(content, tested.never_gives_up);
        if tested.recorder.try_submit(record).is_err() {
            ledger.set_answer(number, Answer::NotAccepted);
        }
    }
    let host_pid: i32 = host.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity
        WHERE application_name = $1 AND $2 = ANY (pg_blocking_pids(pid)))";
    let is_blocked = watcher.prepare(sql).await?;
    let start = Instant::now();
    while !watcher.query_one(&is_blocked, &[&tested.name, &host_pid]).await?.get::<_, bool>(0) {
        if start.elapsed() > WRITE_TIMEOUT {
            return Ok(());
        }
    }
    host.execute(insert, &[&first_id]).await?;
    host.batch_execute("ROLLBACK").await
}

/// Fills the disk for so many statements, and waits until they have failed.
async fn fill_disk(tested: &TestedRecorder, statements: u8) -> Result<(), Error> {
    let client = connect(tested).await?;
    client.batch_execute(&format!("SELECT setval('disk_full', -{statements})")).await?;
    let start = Instant::now();
    while start.elapsed() < FAULT_TIMEOUT {
        let last: i64 = client.query_one("SELECT last_value FROM disk_full", &[]).await?.get(0);
        if last >= 0 {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn lock(tested: &TestedRecorder, time: Duration) -> Result<(), Error> {
    let client = connect(tested).await?;
    client.batch_execute("BEGIN; LOCK microdollar_usage IN EXCLUSIVE MODE").await?;
    tested.locks.fetch_add(1, Ordering::Relaxed);
    sleep(time).await;
    client.batch_execute("ROLLBACK").await
}

/// A connection to the recorder's database past the proxy.
async fn connect(tested: &TestedRecorder) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(&tested.database.url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
