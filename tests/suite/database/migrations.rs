//! The migrations: applied once, beside a host's own tables, and reverted without a trace.

use crate::support::fixtures::{
    Counts, Role, active, counts, eventually, number, option, pid, raw, record_one, request, text,
    until_blocked,
};
use crate::support::log::Log;
use crate::support::{TestDatabase, dump, options, repository};
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use futures_util::future::join_all;
use model_experiments::recording::{self, Outcome, Usage};
use model_experiments::{Error, migrations};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;
use tokio::runtime::Handle;
use uuid::Uuid;

const SECOND: &str = "2026-11-22-000002_create_model_experiments";

/// Diesel's table.
const CREATE_RECORD: &str = "CREATE TABLE IF NOT EXISTS __diesel_schema_migrations (
    version varchar(50) PRIMARY KEY NOT NULL,
    run_on timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
)";

/// Locks the record of migrations, as a run does. Its session goes on in a transaction.
async fn lock_record(conn: &mut AsyncPgConnection) {
    raw(conn, CREATE_RECORD).await.unwrap();
    let lock = "BEGIN; LOCK TABLE __diesel_schema_migrations IN SHARE ROW EXCLUSIVE MODE";
    raw(conn, lock).await.unwrap();
}

fn names() -> Vec<String> {
    repository::migrations().into_iter().map(|migration| migration.name).collect()
}

/// The lines that only one of two dumps has.
fn differences<'a>(one: &'a str, other: &'a str) -> Vec<&'a str> {
    let one: BTreeSet<_> = one.lines().collect();
    let other: BTreeSet<_> = other.lines().collect();
    one.symmetric_difference(&other).copied().collect()
}

async fn exists(conn: &mut AsyncPgConnection, table: &str) -> bool {
    number(conn, &format!("SELECT count(to_regclass('{table}')) AS number")).await == 1
}

#[tokio::test]
async fn all_migrations_are_pending_in_an_empty_database_and_listing_them_writes_nothing() {
    let db = TestDatabase::empty().await;
    let (before, conn) = (dump::dump(&db.url(), &[]), &mut db.connect().await);
    assert_eq!(migrations::pending(&db.options()).await.unwrap(), names());
    assert!(!exists(conn, "__diesel_schema_migrations").await);
    assert_eq!(dump::dump(&db.url(), &[]), before);
}

#[tokio::test]
async fn a_run_applies_what_is_pending_and_a_second_run_nothing() {
    let db = TestDatabase::empty().await;
    let options = db.options();
    assert_eq!(migrations::run(&options).await.unwrap(), names());
    assert_eq!(counts(&mut db.connect().await).await, Counts::default());
    assert_eq!(migrations::pending(&options).await.unwrap(), [""; 0]);
    assert_eq!(migrations::run(&options).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn services_that_start_at_once_share_the_work_on_one_thread() {
    let db = TestDatabase::empty().await;
    let options = db.options();
    let runs = join_all((0..8).map(|_| migrations::run(&options))).await;
    let mut applied: Vec<_> = runs.into_iter().flat_map(Result::unwrap).collect();
    applied.sort_unstable();
    assert_eq!(applied, names());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_start_at_once_share_the_work_on_many_threads() {
    let db = TestDatabase::empty().await;
    let run = |_| {
        let options = db.options();
        tokio::spawn(async move { migrations::run(&options).await })
    };
    let runs = join_all((0..8).map(run)).await;
    let mut applied: Vec<_> = runs.into_iter().flat_map(|run| run.unwrap().unwrap()).collect();
    applied.sort_unstable();
    assert_eq!(applied, names());
    assert_eq!(counts(&mut db.connect().await).await, Counts::default());
}

#[tokio::test]
async fn waiting_for_another_run_is_not_cut_short_by_a_timeout() {
    let db = TestDatabase::empty().await;
    let other = &mut db.connect().await;
    lock_record(other).await;
    let url = option(&db.url(), "options=-c%20statement_timeout%3D50%20-c%20lock_timeout%3D50");
    let impatient = options(&url);
    let (applied, ()) = tokio::join!(migrations::run(&impatient), async {
        let watcher = &mut db.connect().await;
        let waits = "SELECT count(*) AS number FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'
            AND query_start < clock_timestamp() - interval '150 ms'";
        eventually("it waits longer than its timeout", async || number(watcher, waits).await == 1)
            .await;
        raw(other, "COMMIT").await.unwrap();
    });
    assert_eq!(applied.unwrap(), names());
}

#[tokio::test]
async fn a_run_that_waits_too_long_names_who_keeps_it_waiting() {
    let db = TestDatabase::empty().await;
    let other = &mut db.connect().await;
    lock_record(other).await;
    let pid = number(other, "SELECT pg_backend_pid()::bigint AS number").await;
    let waited = migrations::run_within(&db.options(), Duration::from_millis(20)).await;
    match waited {
        Err(error @ Error::Locked { holder, .. }) => {
            assert_eq!(holder.map(i64::from), Some(pid));
            assert!(error.to_string().contains(&pid.to_string()) && error.is_retryable());
        }
        outcome => panic!("{outcome:?}"),
    }
    raw(other, "ROLLBACK; DROP TABLE __diesel_schema_migrations").await.unwrap();
    // Nobody sees yet what the other session has created.
    raw(other, &format!("BEGIN; {CREATE_RECORD}")).await.unwrap();
    let waited = migrations::run_within(&db.options(), Duration::from_millis(20)).await;
    assert!(matches!(waited, Err(Error::Locked { holder: None, .. })), "{waited:?}");
    raw(other, "ROLLBACK").await.unwrap();
    assert_eq!(migrations::run(&db.options()).await.unwrap(), names());
}

#[tokio::test]
async fn a_role_that_may_only_read_the_record_keeps_no_run_waiting() {
    let db = TestDatabase::new().await;
    let (conn, other) = (&mut db.connect().await, &mut db.connect().await);
    let role = Role::new(conn, "GRANT SELECT ON __diesel_schema_migrations TO $role").await;
    role.assume(other).await;
    let lock = "BEGIN; LOCK TABLE __diesel_schema_migrations IN SHARE ROW EXCLUSIVE MODE";
    assert!(raw(other, lock).await.unwrap_err().to_string().contains("permission denied"));
    let strongest = "ROLLBACK; BEGIN; LOCK TABLE __diesel_schema_migrations IN ACCESS SHARE MODE";
    raw(other, strongest).await.unwrap();

    raw(conn, "DELETE FROM __diesel_schema_migrations").await.unwrap();
    // It goes on to the first migration, whose table is there.
    let outcome = migrations::run_within(&db.options(), Duration::from_millis(20)).await;
    assert!(matches!(outcome, Err(Error::Migration(_))), "{outcome:?}");
    raw(other, "ROLLBACK").await.unwrap();
    role.drop(conn).await;
}

#[tokio::test]
async fn a_role_that_may_write_nothing_runs_nothing_where_nothing_is_pending() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let role = Role::new(conn, "GRANT SELECT ON __diesel_schema_migrations TO $role").await;
    role.sql(conn, "ALTER ROLE $role SET default_transaction_read_only = on").await;
    let reader = options(&role.login(conn, &db.url()).await);
    // A run waits for whoever has locked the record, if it writes.
    lock_record(conn).await;
    let wait = Duration::from_millis(20);
    assert_eq!(migrations::run_within(&reader, wait).await.unwrap(), [""; 0]);
    assert_eq!(migrations::pending(&reader).await.unwrap(), [""; 0]);
    raw(conn, "ROLLBACK; DELETE FROM __diesel_schema_migrations").await.unwrap();
    assert_eq!(migrations::pending(&reader).await.unwrap(), names());
    let outcome = migrations::run_within(&reader, wait).await;
    assert!(matches!(outcome, Err(Error::Database(_))), "{outcome:?}");
    role.drop(conn).await;
}

#[tokio::test]
async fn a_role_with_other_defaults_of_transactions_applies_migrations() {
    let db = TestDatabase::empty().await;
    let conn = &mut db.connect().await;
    let role = Role::new(conn, "GRANT CREATE, USAGE ON SCHEMA public TO $role").await;
    role.sql(
        conn,
        "ALTER ROLE $role SET default_transaction_read_only = on;
         ALTER ROLE $role SET default_transaction_isolation = 'serializable'",
    )
    .await;
    let owner = options(&role.login(conn, &db.url()).await);
    assert_eq!(migrations::run(&owner).await.unwrap(), names());
    assert_eq!(migrations::run(&owner).await.unwrap(), [""; 0]);
    role.drop(conn).await;
}

#[tokio::test]
async fn who_is_waited_for_is_logged_once() {
    let db = TestDatabase::empty().await;
    let (log, _guard) = Log::of_thread();
    let other = &mut db.connect().await;
    lock_record(other).await;
    let holder = pid(other).await;
    let waits = || log.lines().into_iter().filter(|line| line.contains("waiting for who"));
    let options = db.options();
    let (applied, ()) = tokio::join!(migrations::run(&options), async {
        let watcher = &mut db.connect().await;
        eventually("the wait is logged", async || {
            pid(watcher).await;
            waits().count() == 1
        })
        .await;
        until_blocked(watcher).await;
        raw(other, "COMMIT").await.unwrap();
    });
    assert_eq!(applied.unwrap(), names());
    let waits: Vec<_> = waits().collect();
    assert_eq!(waits.len(), 1, "{waits:?}");
    assert!(waits[0].contains(" INFO ") && waits[0].contains(&format!("holder={holder}")));
}

#[tokio::test]
async fn a_run_whose_connection_is_lost_goes_on_over_another() {
    const BLOCKED: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let db = TestDatabase::empty().await;
    let (options, other) = (db.options(), &mut db.connect().await);
    lock_record(other).await;
    let (applied, ()) = tokio::join!(migrations::run(&options), async {
        let watcher = &mut db.connect().await;
        until_blocked(watcher).await;
        raw(watcher, BLOCKED).await.unwrap();
        // The second migration waits for a table of that name.
        let create = "COMMIT; BEGIN; CREATE TABLE model_experiment_variant (host_column text)";
        raw(other, create).await.unwrap();
        let applied = "SELECT count(*) AS number FROM __diesel_schema_migrations";
        eventually("the first is applied", async || number(watcher, applied).await == 1).await;
        until_blocked(watcher).await;
        raw(watcher, BLOCKED).await.unwrap();
        raw(other, "ROLLBACK").await.unwrap();
    });
    assert_eq!(applied.unwrap(), names());
}

/// Applies a host's own migrations as Diesel's harness does. Returns whether that succeeded.
fn migrate_host(runtime: &Handle, db: &TestDatabase, directory: &Path) -> bool {
    let conn = runtime.block_on(db.connect());
    let conn = &mut AsyncConnectionWrapper::<AsyncPgConnection>::from(conn);
    let source = FileBasedMigrations::from_path(directory).unwrap();
    conn.run_pending_migrations(source).is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_applies_its_own_migrations_at_the_same_moment_fails_no_run() {
    const DATABASES: usize = 12;
    const SERVICES: usize = 8;

    let directory = std::env::temp_dir().join(format!("model-experiments-{}", Uuid::now_v7()));
    let migration = directory.join("2026-01-01-000000_create_host_table");
    std::fs::create_dir_all(&migration).unwrap();
    let up = "CREATE TABLE IF NOT EXISTS host_table (id bigint PRIMARY KEY)";
    std::fs::write(migration.join("up.sql"), up).unwrap();

    let mut hosts = 0;
    for _ in 0..DATABASES {
        let db = Arc::new(TestDatabase::empty().await);
        let start = Arc::new(Barrier::new(2 * SERVICES));
        let runtime = Handle::current();
        let services: Vec<_> = (0..2 * SERVICES)
            .map(|at| {
                let (runtime, db) = (runtime.clone(), Arc::clone(&db));
                let (start, directory) = (Arc::clone(&start), directory.clone());
                std::thread::spawn(move || {
                    start.wait();
                    if at % 2 == 0 {
                        return Ok(usize::from(migrate_host(&runtime, &db, &directory)));
                    }
                    runtime.block_on(migrations::run(&db.options())).map(|_| 0)
                })
            })
            .collect();
        for service in services {
            hosts += tokio::task::block_in_place(|| service.join()).unwrap().unwrap();
        }
        assert_eq!(migrations::pending(&db.options()).await.unwrap(), [""; 0]);
    }
    std::fs::remove_dir_all(&directory).unwrap();
    // A host whose harness lost a race starts again, which is not ours to mend.
    assert!(hosts > 0);
}

#[tokio::test]
async fn a_migration_that_fails_is_named_and_leaves_nothing_of_itself() {
    let db = TestDatabase::empty().await;
    let (options, conn) = (db.options(), &mut db.connect().await);
    // Conflicts with the second table of the second migration.
    raw(conn, "CREATE TABLE model_experiment_variant (host_column text)").await.unwrap();
    match migrations::run(&options).await {
        Err(error @ Error::Migration(_)) => {
            let text = error.to_string();
            assert!(text.contains(SECOND), "{text}");
            assert!(text.contains("\"model_experiment_variant\" already exists"), "{text}");
            assert!(!error.is_retryable());
        }
        other => panic!("{other:?}"),
    }
    assert!(exists(conn, "microdollar_usage").await);
    assert!(!exists(conn, "model_experiment").await);
    assert_eq!(migrations::pending(&options).await.unwrap(), names()[1..]);

    raw(conn, "DROP TABLE model_experiment_variant").await.unwrap();
    assert_eq!(migrations::run(&options).await.unwrap(), names()[1..]);
}

#[tokio::test]
async fn a_host_that_owns_the_usage_table_keeps_it() {
    let db = TestDatabase::empty().await;
    let (url, options, conn) = (db.url(), db.options(), &mut db.connect().await);
    raw(
        conn,
        "CREATE TABLE microdollar_usage (
            region text NOT NULL DEFAULT 'eu', id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            kilo_user_id text NOT NULL, cost bigint NOT NULL, input_tokens bigint NOT NULL,
            output_tokens bigint NOT NULL, cache_write_tokens bigint NOT NULL,
            cache_hit_tokens bigint NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
            provider text, model text, requested_model text, cache_discount bigint,
            has_error boolean NOT NULL DEFAULT false, organization_id uuid,
            abuse_classification smallint NOT NULL DEFAULT 0, inference_provider text,
            project_id text
        );
        INSERT INTO microdollar_usage (kilo_user_id, region, cost, input_tokens, output_tokens,
            cache_write_tokens, cache_hit_tokens)
        SELECT 'user-' || n, 'us', n, n, n, n, n FROM generate_series(1, 3) n",
    )
    .await
    .unwrap();
    let rows = "SELECT string_agg(u::text, E'\\n' ORDER BY cost) AS text
        FROM microdollar_usage u WHERE region = 'us'";
    let (rows_before, schema_before) = (text(conn, rows).await, dump::schema(&url));
    assert_eq!(rows_before.lines().count(), 3);

    // The first migration says how such a host skips it.
    let migrations_of_ours = repository::migrations();
    let (first, rest) = migrations_of_ours.split_first().unwrap();
    let skip: Vec<_> = first.up.lines().filter_map(|line| line.strip_prefix("--   ")).collect();
    raw(conn, &skip.join("\n")).await.unwrap();
    assert_eq!(migrations::pending(&options).await.unwrap(), names()[1..]);
    assert_eq!(migrations::run(&options).await.unwrap(), names()[1..]);
    // A second time, as when the host's own migrations are applied again.
    raw(conn, &skip.join("\n")).await.unwrap();
    assert_eq!(migrations::pending(&options).await.unwrap(), [""; 0]);

    let served = active(conn, "partner/foo").await.control_version.id;
    let usage = Usage { cost: 940, ..Usage::new("user-7") };
    assert_eq!(record_one(conn, &usage, &request(served)).await, Ok(Outcome::Recorded));
    assert_eq!(recording::find_usage(conn, usage.id).await.unwrap().unwrap().cost, 940);
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 2, versions: 2, usages: 4, requests: 1 }
    );

    for migration in rest.iter().rev() {
        raw(conn, &migration.down).await.unwrap();
    }
    assert_eq!(text(conn, rows).await, rows_before);
    assert_eq!(dump::schema(&url), schema_before);
}

#[tokio::test]
async fn every_migration_is_undone_without_a_trace_and_applied_again_as_before() {
    let db = TestDatabase::empty().await;
    let conn = &mut db.connect().await;
    let migrations = repository::migrations();
    let Some(empty) = dump::schema(&db.url()) else { return };
    let mut dumps = vec![empty];
    for migration in &migrations {
        raw(conn, &migration.up).await.unwrap();
        dumps.push(dump::schema(&db.url()).unwrap());
    }
    assert_eq!(dumps.len(), names().len() + 1);
    let befores = dumps.iter();
    let afters = dumps.iter().skip(1);
    let states: Vec<_> = befores.zip(afters).collect();
    assert!(states.iter().all(|(before, after)| before != after));

    for (migration, (before, after)) in migrations.iter().zip(states).rev() {
        // Down, up and down again: a trace that is left would fail the second time.
        for (sql, expected) in
            [(&migration.down, before), (&migration.up, after), (&migration.down, before)]
        {
            raw(conn, sql).await.unwrap();
            let reached = dump::schema(&db.url()).unwrap();
            assert_eq!(differences(&reached, expected), [""; 0], "{}", migration.name);
            assert_eq!(reached, *expected, "{}", migration.name);
        }
    }
    // The library embeds the migrations of the repository.
    let embedded = dump::schema(&TestDatabase::new().await.url()).unwrap();
    assert_eq!(embedded, *dumps.last().unwrap());
}

#[tokio::test]
async fn a_deployment_with_rows_upgrades_and_keeps_them() {
    let db = TestDatabase::empty().await;
    let (options, conn) = (db.options(), &mut db.connect().await);
    for migration in repository::migrations().iter().take(2) {
        raw(conn, &migration.up).await.unwrap();
        let (digits, _) = migration.name.split_once('_').unwrap();
        let applied = format!(
            "CREATE TABLE IF NOT EXISTS __diesel_schema_migrations (
                version varchar(50) PRIMARY KEY NOT NULL,
                run_on timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
            );
            INSERT INTO __diesel_schema_migrations (version) VALUES ('{}')",
            digits.replace('-', "")
        );
        raw(conn, &applied).await.unwrap();
    }
    let states =
        "INSERT INTO model_experiment (public_model_id, name, status, started_at, ended_at) VALUES
        ('a/b', 'draft', 'draft', NULL, NULL), ('a/b', 'active', 'active', now(), NULL),
        ('c/d', 'paused', 'paused', now(), NULL), ('c/d', 'completed', 'completed', now(), now())";
    raw(conn, states).await.unwrap();
    let rows = "SELECT string_agg(e::text, E'\\n' ORDER BY name) AS text FROM model_experiment e";
    let before = text(conn, rows).await;
    assert_eq!(before.lines().count(), 4);
    assert_eq!(migrations::run(&options).await.unwrap(), names()[2..]);
    assert_eq!(text(conn, rows).await, before);
}
