//! Statements that no longer fit end a connection without closing it. The error is retryable, and
//! no pool hands the connection out again.

use crate::support::TestDatabase;
use crate::support::fixtures::{
    Recorded, active, assert_transient, draft, eventually, pid, public_model_id, publish_now, raw,
    record_new, record_one, recorded, request, text,
};
use crate::support::log::Log;
use diesel_async::pooled_connection::PoolableConnection;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use model_experiments::error::Transient;
use model_experiments::experiments::{self, NewExperiment};
use model_experiments::recording::{Outcome, Record, Usage};
use model_experiments::routing::{Route, Subject};
use model_experiments::{Error, Recorder, RecorderOptions, RoutingCache, RoutingOptions};
use std::time::Duration;
use tokio::task::yield_now;

/// Changes the type of a column that operations read and return.
const RETYPE: &str = "ALTER TABLE model_experiment ALTER description TYPE varchar(9000)";

/// A function that forgets what its session has prepared.
const FORGET: &str = "CREATE FUNCTION forget() RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN DEALLOCATE ALL; RETURN ''; END $$";

/// Fails unless a connection refuses what comes next, and diesel-async's pools would discard it.
async fn assert_ended(conn: &mut AsyncPgConnection) {
    assert!(conn.is_broken());
    let refused = draft_of(conn, "partner/after").await;
    assert!(refused.to_string().contains("take another"), "{refused}");
    assert_transient(Err::<(), _>(refused), Transient::ConnectionLost);
}

async fn draft_of(conn: &mut AsyncPgConnection, model: &str) -> Error {
    let new = NewExperiment::new(public_model_id(model), "rc1 or rc2");
    experiments::create(conn, &new).await.unwrap_err()
}

#[tokio::test]
async fn a_changed_result_type_ends_the_connection() {
    let db = TestDatabase::new().await;
    let (conn, owner) = (&mut db.connect().await, &mut db.connect().await);
    let id = draft(conn, "partner/foo").await.id;
    experiments::find(conn, id).await.unwrap();
    raw(owner, RETYPE).await.unwrap();
    assert_transient(experiments::find(conn, id).await, Transient::StaleStatement);
    assert_ended(conn).await;
    let conn = &mut db.connect().await;
    assert!(experiments::find(conn, id).await.unwrap().is_some());
}

#[tokio::test]
async fn an_insertion_whose_result_type_changed_has_inserted_nothing() {
    let db = TestDatabase::new().await;
    let (conn, owner) = (&mut db.connect().await, &mut db.connect().await);
    draft(conn, "partner/foo").await;
    raw(owner, RETYPE).await.unwrap();
    let error = draft_of(conn, "partner/bar").await;
    assert_transient(Err::<(), _>(error), Transient::StaleStatement);
    assert_ended(conn).await;
    let count = "SELECT count(*)::text AS text FROM model_experiment";
    assert_eq!(text(owner, count).await, "1");
    draft(&mut db.connect().await, "partner/bar").await;
}

#[tokio::test]
async fn an_added_column_ends_nothing() {
    let db = TestDatabase::new().await;
    let (conn, owner) = (&mut db.connect().await, &mut db.connect().await);
    let ready = active(conn, "partner/foo").await;
    let request = request(ready.control_version.id);
    record_new(conn, &Usage::new("user-1"), &request).await;
    for table in ["model_experiment", "microdollar_usage", "model_experiment_request"] {
        raw(owner, &format!("ALTER TABLE {table} ADD extra text DEFAULT 'x'")).await.unwrap();
    }
    experiments::find(conn, ready.experiment.id).await.unwrap();
    draft(conn, "partner/bar").await;
    record_new(conn, &Usage::new("user-1"), &request).await;
    assert_eq!(recorded(conn).await, Recorded::both(2));
}

#[tokio::test]
async fn a_forgotten_statement_ends_the_connection() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = draft(conn, "partner/foo").await.id;
    experiments::find(conn, id).await.unwrap();
    raw(conn, "DEALLOCATE ALL").await.unwrap();
    assert_transient(experiments::find(conn, id).await, Transient::StaleStatement);
    assert_ended(conn).await;
}

#[tokio::test]
async fn a_callers_transaction_ends_with_its_connection() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = draft(conn, "partner/foo").await.id;
    experiments::find(conn, id).await.unwrap();
    let done = conn
        .transaction(async |conn| {
            draft(conn, "partner/rolled-back").await;
            raw(conn, "DEALLOCATE ALL").await?;
            experiments::find(conn, id).await
        })
        .await;
    assert_transient(done, Transient::StaleStatement);
    assert_ended(conn).await;
    let other = &mut db.connect().await;
    let count = "SELECT count(*)::text AS text FROM model_experiment";
    assert_eq!(text(other, count).await, "1");
}

#[tokio::test]
async fn a_pool_closes_what_has_ended() {
    let db = TestDatabase::new().await;
    let owner = &mut db.connect().await;
    let version = active(owner, "partner/foo").await.control_version.id;
    raw(owner, FORGET).await.unwrap();
    let record = async |conn: &mut AsyncPgConnection| {
        record_one(conn, &Usage::new("user-1"), &request(version)).await
    };
    let pool = db.pool(1);

    let mut conn = pool.get().await.unwrap();
    assert_eq!(record(&mut conn).await, Ok(Outcome::Recorded));
    let first = pid(&mut conn).await;
    // The pool resets what it sees of a session, and this is hidden in a function.
    assert_eq!(text(&mut conn, "SELECT forget() AS text").await, "");
    drop(conn);
    let mut conn = pool.get().await.unwrap();
    assert_eq!(pid(&mut conn).await, first);
    assert_transient(record(&mut conn).await, Transient::StaleStatement);
    drop(conn);

    let mut conn = pool.get().await.unwrap();
    assert_ne!(pid(&mut conn).await, first);
    assert_eq!(record(&mut conn).await, Ok(Outcome::Recorded));
}

#[tokio::test]
async fn a_recorder_goes_on_when_the_server_forgot_its_statements() {
    for options in [RecorderOptions::default(), RecorderOptions::default().billing_first(true)] {
        let (log, _guard) = Log::of_thread();
        let db = TestDatabase::new().await;
        let conn = &mut db.connect().await;
        let version = active(conn, "partner/foo").await.control_version.id;
        let forget = "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN DEALLOCATE ALL; RETURN NULL; END $$;
            CREATE TRIGGER forget AFTER INSERT ON microdollar_usage
                FOR EACH STATEMENT EXECUTE FUNCTION forget()";
        raw(conn, forget).await.unwrap();
        let recorder = Recorder::start(&db.options(), options).await.unwrap();
        for _ in 0..3 {
            let record = Record::new(Usage::new("user-1"), request(version));
            let receipt = recorder.submit(record).await.unwrap();
            assert_eq!(receipt.await, Ok(Outcome::Recorded));
        }
        assert_eq!(recorded(conn).await, Recorded::both(3));
        let lines = log.lines();
        assert!(lines.iter().any(|line| line.contains("no longer fits")), "{lines:#?}");
        assert_eq!(log.errors(), [""; 0]);
    }
}

#[tokio::test]
async fn a_cache_goes_on_when_its_statements_no_longer_fit() {
    let (log, _guard) = Log::of_thread();
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let control = active(conn, "partner/foo").await.control.id;
    let options = RoutingOptions::default().poll_interval(Duration::from_millis(20));
    let cache = RoutingCache::start(&db.options(), options).await.unwrap();
    // A guard's trigger names the column.
    let retype = "DO $$ DECLARE guard text; BEGIN
            FOR guard IN SELECT tgname FROM pg_trigger
                WHERE tgrelid = 'model_experiment'::regclass AND NOT tgisinternal
            LOOP EXECUTE format('DROP TRIGGER %I ON model_experiment', guard); END LOOP; END $$;
        ALTER TABLE model_experiment ALTER public_model_id TYPE varchar(500)";
    raw(conn, retype).await.unwrap();
    let conn = &mut db.connect().await;
    for variant in [control, active(conn, "partner/bar").await.control.id] {
        publish_now(conn, variant, "rc2").await;
    }
    for model in ["partner/foo", "partner/bar"] {
        // Of a hundred users, some are served by the control variant.
        let is_seen = |user: usize| {
            let route = cache.pick(model, Subject::user(format!("user-{user}").as_str()));
            matches!(route, Route::Serve(served) if served.upstream().internal_id() == "rc2")
        };
        eventually("the cache sees the change", async || {
            yield_now().await;
            (0..100).any(is_seen)
        })
        .await;
    }
    let lines = log.lines();
    assert!(lines.iter().any(|line| line.contains("no longer fits")), "{lines:#?}");
    assert_eq!(log.errors(), [""; 0]);
}
