//! Faults that happen on the server, and those on the way when their turn comes.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Error, NoTls};

use crate::ledger::{Content, End, Entry};
use crate::plan::{self, Fault};
use crate::tested_recorder::{TestedRecorder, WRITE_TIMEOUT};
use crate::wire;

/// How long a fault waits for something to break, before the next one has its turn.
const FIRE: Duration = Duration::from_secs(10);

/// Lets one fault after the other happen to `tested`, until it is calm.
pub async fn run(tested: Arc<TestedRecorder>, mut runner: TestRunner, calm: Arc<AtomicBool>) {
    while !calm.load(Ordering::Relaxed) {
        let (after, fault) = plan::fault().new_tree(&mut runner).unwrap().current();
        let injected = match fault {
            Fault::Wire(fault) => {
                on_the_way(&tested, fault, after).await;
                Ok(())
            }
            Fault::Terminate => terminate(&tested).await,
            Fault::Deadlock => deadlock(&tested).await,
            Fault::DiskFull(statements) => disk_full(&tested, statements).await,
            Fault::Lock(time) => lock(&tested, time).await,
        };
        // Perhaps the server is killed, too.
        drop(injected);
    }
}

async fn on_the_way(tested: &TestedRecorder, fault: wire::Fault, after: usize) {
    let is_of_connection = matches!(fault, wire::Fault::Refuse | wire::Fault::StallConnect(_));
    let fired = tested.wire.arm(fault, if is_of_connection { 0 } else { after });
    // A new connection is made where there was one.
    let cut = is_of_connection.then(|| tested.wire.arm(wire::Fault::CutBefore, after));
    // Nobody connects or records perhaps.
    let _ = timeout(FIRE, fired).await;
    drop(cut);
}

async fn terminate(tested: &TestedRecorder) -> Result<(), Error> {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM (
        SELECT pid FROM pg_stat_activity WHERE application_name = $1
        ORDER BY state = 'active' DESC, random() LIMIT 1) AS one";
    connect(tested).await?.execute(sql, &[&tested.name]).await.map(drop)
}

/// Inserts the later of two usages, has the recorder insert both, which waits, and then inserts the
/// other.
async fn deadlock(tested: &TestedRecorder) -> Result<(), Error> {
    let (host, watcher) = (connect(tested).await?, connect(tested).await?);
    // The recorder is to be the one who gives way.
    host.batch_execute("SET deadlock_timeout = '5s'; SET lock_timeout = '3s'; BEGIN").await?;
    let contents = [(); 2].map(|()| Content::new(tested.database.version));
    let ids = contents.each_ref().map(|content| *content.usage.id.as_uuid());
    let insert = "INSERT INTO microdollar_usage
        (id, kilo_user_id, cost, input_tokens, output_tokens, cache_write_tokens, cache_hit_tokens)
        VALUES ($1, 'host', 0, 0, 0, 0, 0)";
    host.execute(insert, &[&ids[1]]).await?;
    for content in contents {
        let (record, is_patient) = (content.record(), tested.is_patient);
        let entry = Entry { content, is_patient, end: End::Unheard };
        let number = tested.database.ledger.submit(entry);
        if tested.recorder.try_submit(record).is_err() {
            tested.database.ledger.ended(number, End::NotTaken);
        }
    }
    let host_pid: i32 = host.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity
        WHERE application_name = $1 AND $2 = ANY (pg_blocking_pids(pid)))";
    let waits = watcher.prepare(sql).await?;
    let start = Instant::now();
    while !watcher.query_one(&waits, &[&tested.name, &host_pid]).await?.get::<_, bool>(0) {
        if start.elapsed() > WRITE_TIMEOUT {
            return Ok(());
        }
    }
    host.execute(insert, &[&ids[0]]).await?;
    host.batch_execute("ROLLBACK").await
}

/// Fills the disk, and waits until it has been found full.
async fn disk_full(tested: &TestedRecorder, statements: u8) -> Result<(), Error> {
    let client = connect(tested).await?;
    client.batch_execute(&format!("SELECT setval('disk_full', -{statements})")).await?;
    let start = Instant::now();
    while start.elapsed() < FIRE {
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
    tested.locked.fetch_add(1, Ordering::Relaxed);
    sleep(time).await;
    client.batch_execute("ROLLBACK").await
}

/// A connection to the tested's database that no fault is meant for.
async fn connect(tested: &TestedRecorder) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(&tested.database.url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
