//! The recorder: whatever was taken is recorded once, or its caller hears why not.

mod batches;
mod billing;
mod bounds;
mod doubt;
mod faults;
mod isolation;
mod lifetime;
mod model;
mod observed;
mod outcomes;
mod shutdown;

use crate::support::TestDatabase;
use crate::support::fixtures::{Recorded, active, counts, eventually, insert_usage, number, raw, request};
use diesel_async::AsyncPgConnection;
use futures_util::FutureExt;
use model_experiments::recording::{NotRecorded, Outcome, Receipt, Record, Usage};
use model_experiments::values::VersionId;
use model_experiments::{Recorder, RecorderOptions};
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::timeout;
use uuid::Uuid;

/// What the server shows the recorders' connections as.
const NAME: &str = "recorder of a test";

/// The processes on the server that serve recorders of this database.
const BACKENDS: &str = "FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'recorder of a test'";

/// Longer than any machine needs.
const LONG: Duration = Duration::from_secs(60);

/// So late that a test is over by then: what is seen happened for another reason.
const NEVER: Duration = Duration::from_secs(3_600);

/// An experiment's database, with a connection and a version to attribute requests to.
async fn database() -> (TestDatabase, AsyncPgConnection, VersionId) {
    let db = TestDatabase::new().await;
    let mut conn = db.connect().await;
    let version = active(&mut conn, "partner/foo").await.control_version.id;
    (db, conn, version)
}

fn RecorderOptions::default() -> RecorderOptions {
    RecorderOptions::default().application_name(NAME)
}

/// Both ways to write.
fn both_ways() -> [RecorderOptions; 2] {
    [RecorderOptions::default(), RecorderOptions::default().billing_first(true)]
}

async fn start(url: &str, options: RecorderOptions) -> Recorder {
    Recorder::start(url, options).await.unwrap()
}

fn record(version: VersionId) -> Record {
    Record::new(Usage::new("user-1"), request(version))
}

/// A version that isn't there.
fn missing() -> VersionId {
    VersionId::from(Uuid::now_v7())
}

/// Gives a recorder records all at once, before its writer gets a turn on the test's one thread.
fn burst(recorder: &Recorder, records: impl IntoIterator<Item = Record>) -> Vec<Receipt> {
    records.into_iter().map(|record| recorder.try_submit(record).unwrap()).collect()
}

/// What a receipt says, which isn't waited for without end.
async fn answer(receipt: Receipt) -> Result<Outcome, NotRecorded> {
    timeout(LONG, receipt).await.expect("the receipt is answered")
}

/// What receipts say that are answered already.
fn answered_already(receipts: impl IntoIterator<Item = Receipt>) -> Vec<Result<Outcome, NotRecorded>> {
    let answer = |receipt: Receipt| receipt.now_or_never().expect("the receipt is answered");
    receipts.into_iter().map(answer).collect()
}

async fn all_recorded(receipts: impl IntoIterator<Item = Receipt>) {
    for receipt in receipts {
        assert_eq!(answer(receipt).await, Ok(Outcome::Recorded));
    }
}

/// How many usages and requests there are.
async fn recorded(conn: &mut AsyncPgConnection) -> [i64; 2] {
    let [.., usages, requests] = counts(conn).await;
    [usages, requests]
}

/// Lets nobody write to `table` until it is unlocked.
async fn lock(db: &TestDatabase, table: &str) -> AsyncPgConnection {
    let mut holder = db.connect().await;
    raw(&mut holder, &format!("BEGIN; LOCK TABLE {table} IN SHARE MODE")).await.unwrap();
    holder
}

async fn unlock(mut holder: AsyncPgConnection) {
    raw(&mut holder, "ROLLBACK").await.unwrap();
}

/// Holds the id of `usage`: whoever inserts it waits until that is undone.
async fn hold(db: &TestDatabase, usage: &Usage) -> AsyncPgConnection {
    let mut holder = db.connect().await;
    raw(&mut holder, "BEGIN").await.unwrap();
    assert!(insert_usage(&mut holder, usage).await);
    holder
}

/// Counts from now on the statements that insert into `table`, also those that fail.
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

/// How many statements were counted since the last time.
async fn statements(conn: &mut AsyncPgConnection) -> i64 {
    // A sequence is never rolled back.
    let sql = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS number FROM statements";
    let counted = number(conn, sql).await;
    raw(conn, "ALTER SEQUENCE statements RESTART").await.unwrap();
    counted
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
async fn what_is_taken_is_recorded() {
    for options in both_ways() {
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
