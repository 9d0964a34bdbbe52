//! What a user of a pooled connection leaves behind, which doesn't reach the next.

use crate::support::fixtures::{
    abandon, active, eventually, number, option, pid, raw, text, until_gone,
};
use crate::support::log::Log;
use crate::support::{TestDatabase, options};
use diesel_async::AsyncConnection;
use futures_util::FutureExt;
use model_experiments::{Page, Pool, PoolOptions, PooledConnection, experiments, reports, routing};
use std::time::Duration;
use tokio::time::timeout;

const INSERT: &str = "INSERT INTO model_experiment (public_model_id, name) VALUES ('a/b', 'c')";

/// Longer than any test waits.
const SLEEP: &str = "SELECT pg_sleep(600)";

/// A connection of the pool's, in less time than an abandoned statement takes.
async fn next(pool: &Pool) -> PooledConnection {
    timeout(Duration::from_secs(60), pool.get()).await.unwrap().unwrap()
}

/// A pool of one connection without a limit on statements.
fn patient_pool(db: &TestDatabase) -> Pool {
    let connect = db.options().statement_timeout(Duration::ZERO);
    Pool::new(connect, PoolOptions::default().max_size(1)).unwrap()
}

#[tokio::test]
async fn what_was_set_in_the_session_does_not_reach_the_next_user() {
    let db = TestDatabase::empty().await;
    let role = format!("role_{}", db.url().rsplit('_').next().unwrap().split('?').next().unwrap());
    let conn = &mut db.connect().await;
    let create = format!(
        "CREATE ROLE {role};
         CREATE FUNCTION log_in() RETURNS text LANGUAGE sql
             AS $$ SELECT set_config('app.user', 'u', false) $$;
         CREATE SEQUENCE numbers;
         CREATE FUNCTION last_number() RETURNS text LANGUAGE plpgsql AS $$
             BEGIN RETURN lastval(); EXCEPTION WHEN OTHERS THEN RETURN ''; END $$"
    );
    raw(conn, &create).await.unwrap();
    // diesel-async sets another one.
    let database = text(conn, "SELECT current_database()::text AS text").await;
    raw(conn, &format!("ALTER DATABASE {database} SET timezone = 'Asia/Tokyo'")).await.unwrap();
    let (pool, fresh) = (db.pool(1), &mut db.connect().await);
    let count = |rows: &str| format!("SELECT count(*)::text AS text FROM {rows}");
    let setting =
        |name: &str| format!("SELECT coalesce(current_setting('{name}', true), '') AS text");
    let locks = count("pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()");
    let table = "SELECT coalesce(to_regclass('kept')::text, '') AS text".to_owned();
    for (sql, probe) in [
        ("SET search_path = pg_catalog", setting("search_path")),
        ("SELECT set_config('search_path', 'pg_catalog', false)", setting("search_path")),
        ("SELECT log_in()", setting("app.user")),
        (&format!("SET ROLE {role}"), "SELECT current_user::text AS text".to_owned()),
        (
            &format!("SET SESSION AUTHORIZATION {role}"),
            "SELECT session_user::text AS text".to_owned(),
        ),
        ("SET statement_timeout = '1h'", setting("statement_timeout")),
        ("SET lock_timeout = '1h'", setting("lock_timeout")),
        ("BEGIN; SET lock_timeout = '1h'; COMMIT", setting("lock_timeout")),
        ("SET application_name = 'other'", setting("application_name")),
        ("SET TIME ZONE 'Europe/Berlin'", setting("TimeZone")),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            setting("default_transaction_read_only"),
        ),
        ("SELECT nextval('numbers')", "SELECT last_number() AS text".to_owned()),
        ("LISTEN channel", count("pg_listening_channels()")),
        ("SELECT pg_advisory_lock(1)", locks.clone()),
        ("SELECT pg_advisory_lock_shared(2, 3)", locks),
        ("CREATE TEMP TABLE kept ()", table.clone()),
        ("SELECT 1 AS a INTO TEMP kept", table),
        ("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT", count("pg_cursors")),
        ("PREPARE p AS SELECT 1", count("pg_prepared_statements WHERE from_sql")),
    ] {
        let mut conn = next(&pool).await;
        let (before, backend) = (text(fresh, &probe).await, pid(&mut conn).await);
        raw(&mut conn, sql).await.unwrap();
        assert_ne!(text(&mut conn, &probe).await, before, "{sql}: it sets nothing");
        drop(conn);
        let mut conn = next(&pool).await;
        assert_eq!(text(&mut conn, &probe).await, before, "{sql}");
        // It was reset in place, where it can be.
        assert_eq!(pid(&mut conn).await == backend, !sql.starts_with("PREPARE"), "{sql}");
    }
    raw(conn, &format!("DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn a_role_that_the_url_sets_is_set_again() {
    let db = TestDatabase::empty().await;
    let conn = &mut db.connect().await;
    // Every server has it.
    let role = "pg_monitor";
    let connect = options(&option(&db.url(), &format!("options=-c%20role%3D{role}")));
    let pool = Pool::new(connect, PoolOptions::default().max_size(1)).unwrap();
    let current = "SELECT current_user::text AS text";
    for sql in ["RESET SESSION AUTHORIZATION", "SET ROLE pg_read_all_stats", "SET ROLE NONE"] {
        let mut conn = next(&pool).await;
        assert_eq!(text(&mut conn, current).await, role, "before {sql}");
        raw(&mut conn, sql).await.unwrap();
    }
    assert_eq!(text(&mut *next(&pool).await, current).await, role);
    assert_ne!(text(conn, current).await, role);
}

#[tokio::test]
async fn what_was_set_is_undone_at_the_return_and_not_at_the_next_use() {
    let db = TestDatabase::empty().await;
    let (pool, watcher) = (db.pool(1), &mut db.connect().await);
    let mut conn = next(&pool).await;
    raw(&mut conn, "SELECT pg_advisory_lock(1)").await.unwrap();
    drop(conn);
    assert_eq!(pool.status().available, 0);
    let locks = "SELECT count(*) AS number FROM pg_locks WHERE locktype = 'advisory'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("the lock is released", async || number(watcher, locks).await == 0).await;
    eventually("it is available", async || {
        tokio::task::yield_now().await;
        pool.status().available == 1
    })
    .await;
}

#[tokio::test]
async fn a_raw_transaction_does_not_swallow_what_the_next_user_writes() {
    let db = TestDatabase::new().await;
    let (pool, watcher) = (db.pool(1), &mut db.connect().await);
    let (log, _guard) = Log::of_thread();
    let mut inserted = 0;
    for left in [
        &["BEGIN"][..],
        &["begin"],
        &["START TRANSACTION READ ONLY"],
        &["SELECT 1; BEGIN"],
        &["BEGIN", "COMMIT AND CHAIN"],
        &["BEGIN", "SAVEPOINT s", "ROLLBACK TO SAVEPOINT s"],
        &["BEGIN", "SELECT 1 / 0"],
        &["BEGIN; SELECT 1 / 0"],
    ] {
        let mut conn = next(&pool).await;
        let backend = pid(&mut conn).await;
        for sql in left {
            let _ = raw(&mut conn, sql).await;
        }
        drop(conn);
        let mut conn = next(&pool).await;
        assert_ne!(pid(&mut conn).await, backend, "{left:?}");
        raw(&mut conn, INSERT).await.unwrap();
        drop(conn);
        inserted += 1;
        let count = "SELECT count(*) AS number FROM model_experiment";
        assert_eq!(number(watcher, count).await, inserted, "{left:?}");
        let warnings = log.lines().iter().filter(|line| line.contains(" WARN ")).count() as i64;
        assert_eq!(warnings, inserted, "{left:?}: {:?}", log.lines());
        until_gone(watcher, backend).await;
    }
}

#[tokio::test]
async fn lost_prepared_statements_do_not_fail_the_next_user() {
    let db = TestDatabase::empty().await;
    let pool = db.pool(1);
    for sql in ["DEALLOCATE ALL", "DISCARD ALL", "SELECT 1; DEALLOCATE ALL"] {
        pool.health().await.unwrap();
        let mut conn = next(&pool).await;
        raw(&mut conn, sql).await.unwrap();
        drop(conn);
        pool.health().await.unwrap();
    }
}

#[tokio::test]
async fn an_abandoned_statement_is_cancelled_and_the_next_user_does_not_wait_for_it() {
    let db = TestDatabase::empty().await;
    let (pool, watcher) = (patient_pool(&db), &mut db.connect().await);
    for is_read in [false, true] {
        let mut conn = next(&pool).await;
        let backend = pid(&mut conn).await;
        if is_read {
            let sql = "SELECT 1::bigint AS number FROM pg_sleep(600)";
            abandon(watcher, backend, number(&mut conn, sql)).await;
        } else {
            abandon(watcher, backend, raw(&mut conn, SLEEP)).await;
        }
        drop(conn);
        let mut conn = next(&pool).await;
        assert_ne!(pid(&mut conn).await, backend);
        until_gone(watcher, backend).await;
    }
}

#[tokio::test]
async fn a_statement_abandoned_before_it_was_sent_is_cancelled() {
    let db = TestDatabase::empty().await;
    let (pool, watcher) = (patient_pool(&db), &mut db.connect().await);
    let mut conn = next(&pool).await;
    let backend = pid(&mut conn).await;
    assert!(raw(&mut conn, SLEEP).now_or_never().is_none());
    drop(conn);
    assert_ne!(pid(&mut *next(&pool).await).await, backend);
    until_gone(watcher, backend).await;
}

#[tokio::test]
async fn the_locks_of_an_abandoned_transaction_are_released_at_once() {
    let db = TestDatabase::new().await;
    let (pool, watcher) = (patient_pool(&db), &mut db.connect().await);
    let mut conn = next(&pool).await;
    let backend = pid(&mut conn).await;
    let transaction = conn.transaction(async |conn| {
        raw(conn, "LOCK TABLE model_experiment").await?;
        raw(conn, SLEEP).await
    });
    abandon(watcher, backend, transaction).await;
    drop(conn);
    // It waits for the lock for as long as a statement may take, and fails then.
    raw(watcher, INSERT).await.unwrap();
    until_gone(watcher, backend).await;
}

#[tokio::test]
async fn a_connection_with_another_instrumentation_is_closed() {
    let db = TestDatabase::empty().await;
    let pool = db.pool(1);
    let mut conn = next(&pool).await;
    let backend = pid(&mut conn).await;
    conn.set_instrumentation(|_: diesel::connection::InstrumentationEvent<'_>| {});
    raw(&mut conn, "SET search_path = pg_catalog").await.unwrap();
    drop(conn);
    assert_ne!(pid(&mut *next(&pool).await).await, backend);
}

#[tokio::test]
async fn a_connection_that_was_returned_without_a_runtime_is_not_used_again() {
    let db = TestDatabase::empty().await;
    let (pool, watcher) = (db.pool(1), &mut db.connect().await);
    let mut conn = next(&pool).await;
    let backend = pid(&mut conn).await;
    raw(&mut conn, "SET search_path = pg_catalog").await.unwrap();
    std::thread::spawn(move || drop(conn)).join().unwrap();
    assert_ne!(pid(&mut *next(&pool).await).await, backend);
    until_gone(watcher, backend).await;
}

/// A connection that goes back without a task had no statement sent on it.
#[tokio::test]
async fn a_connection_that_our_operations_used_is_available_at_once() {
    let db = TestDatabase::new().await;
    let pool = db.pool(1);
    let mut conn = next(&pool).await;
    let backend = pid(&mut conn).await;
    let active = active(&mut conn, "partner/foo").await;
    let (id, model) = (active.experiment.id, &active.experiment.public_model_id);
    let is_available = |conn: PooledConnection, operation: &str| {
        drop(conn);
        assert_eq!(pool.status().available, 1, "{operation}");
    };
    is_available(conn, "create, publish and activate");
    let mut conn = next(&pool).await;
    experiments::pause(&mut conn, id).await.unwrap();
    is_available(conn, "pause");
    let mut conn = next(&pool).await;
    routing::load(&mut conn, model).await.unwrap();
    is_available(conn, "load");
    let mut conn = next(&pool).await;
    experiments::list_versions(&mut conn, active.control.id, Page::first(9)).await.unwrap();
    reports::overview::of_experiment(&mut conn, id).await.unwrap();
    is_available(conn, "reports");
    let mut conn = next(&pool).await;
    // A refused operation, too.
    experiments::delete(&mut conn, id).await.unwrap_err();
    is_available(conn, "delete");
    assert_eq!(pid(&mut *next(&pool).await).await, backend);
}
