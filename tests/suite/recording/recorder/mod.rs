//! The recorder: a record that it took is written once, or comes back with its error.

mod batches;
mod billing;
mod blocked;
mod bounds;
mod doubt;
mod faults;
mod isolation;
mod languages;
mod lifetime;
mod model;
mod observed;
mod outcomes;
mod shutdown;

use crate::support::TestDatabase;
use crate::support::fixtures::{
    Recorded, active, eventually, insert_usage, number, raw, recorded, request,
};
use crate::support::log::Log;
use diesel_async::AsyncPgConnection;
use futures_util::FutureExt;
use model_experiments::recording::{NotRecorded, Outcome, Receipt, Record, Usage};
use model_experiments::values::VersionId;
use model_experiments::{ConnectOptions, Recorder, RecorderOptions};
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::timeout;
use uuid::Uuid;

/// The application name of the recorders' connections.
const NAME: &str = "recorder of a test";

/// The processes on the server that serve recorders of this database.
const BACKENDS: &str = "FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'recorder of a test'";

/// Part of what is logged when records will be retried.
const RETRIED: &str = "will be retried";

/// A timeout that a busy machine doesn't reach.
const LONG: Duration = Duration::from_secs(60);

/// Longer than any test. What happens before happened for another reason.
const NEVER: Duration = Duration::from_secs(3_600);

/// An experiment's database, with a connection and a version to attribute requests to.
type Database = (TestDatabase, AsyncPgConnection, VersionId);

async fn database() -> Database {
    with_experiment(TestDatabase::new().await).await
}

async fn with_experiment(db: TestDatabase) -> Database {
    let mut conn = db.connect().await;
    let version = active(&mut conn, "partner/foo").await.control_version.id;
    (db, conn, version)
}

/// Usages with their requests, or billing first.
fn both_modes() -> [RecorderOptions; 2] {
    [RecorderOptions::default(), RecorderOptions::default().billing_first(true)]
}

async fn start(connect: &ConnectOptions, options: RecorderOptions) -> Recorder {
    Recorder::start(&connect.clone().application_name(NAME), options).await.unwrap()
}

fn record(version: VersionId) -> Record {
    Record::new(Usage::new("user-1"), request(version))
}

fn costing(cost: i64, version: VersionId) -> Record {
    Record::new(Usage { cost, ..Usage::new("user-1") }, request(version))
}

/// A version that doesn't exist.
fn missing() -> VersionId {
    VersionId::from(Uuid::now_v7())
}

/// How recording ended.
type Answer = Result<Outcome, NotRecorded>;

/// Submits records at once, before the writer runs on the test's only thread.
fn burst(recorder: &Recorder, records: impl IntoIterator<Item = Record>) -> Vec<Receipt> {
    records.into_iter().map(|record| recorder.try_submit(record).unwrap()).collect()
}

/// Submits a few records at once, each with its own receipt.
fn burst_of<const N: usize>(recorder: &Recorder, records: [Record; N]) -> [Receipt; N] {
    records.map(|record| recorder.try_submit(record).unwrap())
}

/// Waits for a receipt.
async fn answer(receipt: Receipt) -> Answer {
    timeout(LONG, receipt).await.expect("the receipt is answered")
}

/// The answer of a receipt that is answered already.
fn answered(receipt: Receipt) -> Answer {
    receipt.now_or_never().expect("the receipt is answered")
}

/// The answers of receipts that are answered already.
fn all_answered(receipts: impl IntoIterator<Item = Receipt>) -> Vec<Answer> {
    receipts.into_iter().map(answered).collect()
}

async fn all_recorded(receipts: impl IntoIterator<Item = Receipt>) {
    for receipt in receipts {
        assert_eq!(answer(receipt).await, Ok(Outcome::Recorded));
    }
}

/// Blocks writes to `table` until it is unlocked.
async fn lock(db: &TestDatabase, table: &str) -> AsyncPgConnection {
    let mut holder = db.connect().await;
    raw(&mut holder, &format!("BEGIN; LOCK TABLE {table} IN SHARE MODE")).await.unwrap();
    holder
}

async fn unlock(mut holder: AsyncPgConnection) {
    raw(&mut holder, "ROLLBACK").await.unwrap();
}

/// Blocks insertions of `usage` until it is unlocked.
async fn hold(db: &TestDatabase, usage: &Usage) -> AsyncPgConnection {
    let mut holder = db.connect().await;
    raw(&mut holder, "BEGIN").await.unwrap();
    assert!(insert_usage(&mut holder, usage).await);
    holder
}

/// Blocks records that `version` served until it is unlocked.
async fn hold_version(db: &TestDatabase, version: VersionId) -> AsyncPgConnection {
    let mut holder = db.connect().await;
    let hold = format!(
        "BEGIN; SELECT FROM model_experiment_variant_version WHERE id = '{version}' FOR UPDATE"
    );
    raw(&mut holder, &hold).await.unwrap();
    holder
}

/// A constraint of the host, named `host_rule`: usages cost less than 1,000.
async fn limit_costs(conn: &mut AsyncPgConnection) {
    let rule = "ALTER TABLE microdollar_usage ADD CONSTRAINT host_rule CHECK (cost < 1000)";
    raw(conn, rule).await.unwrap();
}

/// Begins to count the statements that insert into `table`, also those that fail.
async fn count_statements(conn: &mut AsyncPgConnection, table: &str) {
    let sql = format!(
        "CREATE SEQUENCE statements;
         CREATE FUNCTION count_statement() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM nextval('statements'); RETURN NULL; END $$;
         CREATE TRIGGER counted BEFORE INSERT ON {table}
             FOR EACH STATEMENT EXECUTE FUNCTION count_statement()"
    );
    raw(conn, &sql).await.unwrap();
}

/// How many statements were counted since the last call.
async fn statements(conn: &mut AsyncPgConnection) -> i64 {
    // A sequence is never rolled back.
    let sql = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS number FROM statements";
    let counted = number(conn, sql).await;
    raw(conn, "ALTER SEQUENCE statements RESTART").await.unwrap();
    counted
}

/// Waits until a recorder has retried.
async fn until_retried(log: &Log) {
    until_retried_often(log, 2).await;
}

/// Waits until the log says so many times that records are retried.
async fn until_retried_often(log: &Log, times: usize) {
    eventually("records are retried", async || {
        yield_now().await;
        log.lines().iter().filter(|line| line.contains(RETRIED)).count() >= times
    })
    .await;
}

/// Waits until a recorder holds nothing.
async fn until_empty(recorder: &Recorder) {
    eventually("all room is given back", async || {
        yield_now().await;
        recorder.is_empty()
    })
    .await;
}

#[tokio::test]
async fn every_record_is_recorded() {
    for options in both_modes() {
        let (db, mut conn, version) = database().await;
        let recorder = start(&db.options(), options).await;
        let mut receipts = Vec::new();
        for _ in 0..1_000 {
            receipts.push(recorder.submit(record(version)).await.unwrap());
        }
        all_recorded(receipts).await;
        assert_eq!(recorder.shutdown(LONG).await, []);
        assert_eq!(recorder.len(), 0);
        assert_eq!(recorded(&mut conn).await, Recorded::both(1_000));
    }
}
