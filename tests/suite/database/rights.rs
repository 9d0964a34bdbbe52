//! What a role may do that has few privileges: no more than it was granted.

use crate::support::TestDatabase;
use crate::support::fixtures::{Role, active, draft, number, raw, text, until_blocked};
use model_experiments::values::Status;
use model_experiments::{Error, experiments};

#[tokio::test]
async fn every_function_pins_its_path_and_is_the_owners_alone() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let functions = "FROM pg_proc WHERE pronamespace = 'public'::regnamespace";
    assert!(number(conn, &format!("SELECT count(*) AS number {functions}")).await >= 6);
    let unpinned = format!(
        "SELECT coalesce(string_agg(proname, ' '), '') AS text {functions}
         AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)"
    );
    assert_eq!(text(conn, &unpinned).await, "");
    let public = format!(
        "SELECT coalesce(string_agg(proname, ' '), '') AS text {functions}
         AND has_function_privilege('public', oid, 'EXECUTE')"
    );
    assert_eq!(text(conn, &public).await, "");
    // Another function of that name in the schema could fit better.
    let polymorphic = format!(
        "SELECT coalesce(string_agg(proname, ' '), '') AS text {functions}
         AND prosrc ~ '(?<!pg_catalog\\.)\\m(jsonb_build_object|to_jsonb|format|concat)\\('"
    );
    assert_eq!(text(conn, &polymorphic).await, "");
}

/// A foreign key's `ON DELETE SET NULL` runs the triggers of our tables as the owner, under the
/// path of whoever deletes the host's user.
#[tokio::test]
async fn a_role_that_deletes_users_gains_nothing_by_functions_of_its_own() {
    let db = TestDatabase::new().await;
    let (conn, attacker) = (&mut db.connect().await, &mut db.connect().await);
    raw(
        conn,
        "CREATE TABLE host_user (id text PRIMARY KEY);
         INSERT INTO host_user VALUES ('user-1'), ('user-2');
         ALTER TABLE model_experiment ADD FOREIGN KEY (created_by_user_id)
             REFERENCES host_user ON DELETE SET NULL;
         INSERT INTO model_experiment (public_model_id, name, created_by_user_id)
         VALUES ('a/b', 'c', 'user-1')",
    )
    .await
    .unwrap();
    let role = Role::new(
        conn,
        "CREATE SCHEMA attack AUTHORIZATION $role; GRANT SELECT, DELETE ON host_user TO $role",
    )
    .await;
    role.assume(attacker).await;
    for (function, result) in [
        ("statement_timestamp()", "timestamptz"),
        ("clock_timestamp()", "timestamptz"),
        ("set_config(text, text, boolean)", "text"),
        ("quote_ident(text)", "text"),
    ] {
        let attack = format!(
            "CREATE FUNCTION attack.{function} RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'the attack runs as %', current_user;
             END $$"
        );
        raw(attacker, &attack).await.unwrap();
    }
    let path = "SET search_path = attack, public, pg_catalog";
    raw(attacker, &format!("{path}; DELETE FROM host_user WHERE id = 'user-1'")).await.unwrap();
    let cleared = "SELECT count(*) AS number FROM model_experiment
        WHERE created_by_user_id IS NULL AND updated_at >= created_at";
    assert_eq!(number(conn, cleared).await, 1);
    raw(attacker, "ROLLBACK").await.unwrap();
    role.drop(conn).await;
}

#[tokio::test]
async fn a_guard_serves_no_table_of_another_owner() {
    let db = TestDatabase::new().await;
    let (conn, attacker) = (&mut db.connect().await, &mut db.connect().await);
    let id = active(conn, "partner/foo").await.experiment.id;
    let role = Role::new(conn, "CREATE SCHEMA attack AUTHORIZATION $role").await;
    role.assume(attacker).await;
    for (function, arguments) in [
        ("model_experiment_guard", "'require_draft', 'variant'"),
        ("model_experiment_variant_version_guard_instants", ""),
    ] {
        let attach = format!(
            "CREATE TABLE attack.{function} (id uuid, experiment_id uuid, variant_id uuid);
             CREATE TRIGGER probe AFTER INSERT ON attack.{function}
             FOR EACH ROW EXECUTE FUNCTION public.{function}({arguments})"
        );
        let refused = raw(attacker, &attach).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied for function"), "{refused}");

        // Whoever was granted the function all the same, or made the trigger before.
        role.sql(conn, &format!("GRANT EXECUTE ON FUNCTION {function} TO $role")).await;
        raw(attacker, &attach).await.unwrap();
        let probe = format!("INSERT INTO attack.{function} (experiment_id) VALUES ('{id}')");
        let refused = raw(attacker, &probe).await.unwrap_err().to_string();
        assert!(refused.contains("another owner") && !refused.contains("active"), "{refused}");
    }
    role.drop(conn).await;
}

#[tokio::test]
async fn a_role_that_may_write_nothing_blocks_no_pause() {
    let db = TestDatabase::new().await;
    let (conn, other) = (&mut db.connect().await, &mut db.connect().await);
    let id = active(conn, "partner/foo").await.experiment.id;
    let role = Role::new(conn, "GRANT SELECT ON model_experiment TO $role").await;
    role.assume(other).await;
    // The key of an advisory lock is anybody's.
    raw(
        other,
        &format!(
            "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('model_experiment {id}', 0));
             SELECT * FROM model_experiment"
        ),
    )
    .await
    .unwrap();
    let refused = raw(other, "SELECT FROM model_experiment FOR KEY SHARE").await.unwrap_err();
    assert!(refused.to_string().contains("permission denied"), "{refused}");
    raw(conn, "SET lock_timeout = '2s'").await.unwrap();
    assert_eq!(experiments::pause(conn, id).await.unwrap().status, Status::Paused);
    raw(other, "ROLLBACK").await.unwrap();
    role.drop(conn).await;
}

#[tokio::test]
async fn an_operation_that_waits_too_long_names_who_keeps_it_waiting() {
    let db = TestDatabase::new().await;
    let (conn, other) = (&mut db.connect().await, &mut db.connect().await);
    let id = active(conn, "partner/foo").await.experiment.id;
    let pid = number(other, "SELECT pg_backend_pid()::bigint AS number").await;
    raw(other, "BEGIN; SELECT FROM model_experiment FOR UPDATE").await.unwrap();
    raw(conn, "SET lock_timeout = 20").await.unwrap();
    match experiments::pause(conn, id).await {
        Err(error @ Error::Locked { holder, .. }) => {
            assert_eq!(holder.map(i64::from), Some(pid));
            assert!(error.to_string().contains(&pid.to_string()) && error.is_retryable());
        }
        outcome => panic!("{outcome:?}"),
    }
    // What waits without a limit of its own has one.
    raw(conn, "RESET lock_timeout").await.unwrap();
    let watcher = &mut db.connect().await;
    let limit = async {
        until_blocked(watcher).await;
        raw(other, &format!("SELECT pg_terminate_backend({pid}) IS NULL; ROLLBACK")).await.ok();
    };
    let (paused, ()) = tokio::join!(experiments::pause(conn, id), limit);
    assert_eq!(paused.unwrap().status, Status::Paused);
}

#[tokio::test]
async fn guards_see_what_is_written_and_not_what_was_asked() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = draft(conn, "partner/foo").await.id;
    // The host's trigger fires after every trigger of ours that comes before the row is written.
    raw(
        conn,
        "CREATE FUNCTION host_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             NEW.status := 'active'; NEW.started_at := now(); RETURN NEW;
         END $$;
         CREATE TRIGGER zz_host_change BEFORE UPDATE ON model_experiment
         FOR EACH ROW EXECUTE FUNCTION host_change()",
    )
    .await
    .unwrap();
    let error = raw(conn, "UPDATE model_experiment SET name = 'new'").await.unwrap_err();
    let error = Error::from(error);
    assert!(matches!(error, Error::NotReady { experiment, .. } if experiment == id), "{error:?}");
}

#[tokio::test]
async fn guards_follow_their_tables_when_a_schema_is_renamed() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    // The tables of a schema that takes the old name say what an attacker likes.
    raw(
        conn,
        "ALTER SCHEMA public RENAME TO before; CREATE SCHEMA public;
         CREATE TABLE public.model_experiment (id uuid, status text);
         CREATE TABLE public.model_experiment_variant (id uuid, experiment_id uuid);
         CREATE TABLE public.model_experiment_variant_version (variant_id uuid, effective_at timestamptz)",
    )
    .await
    .unwrap();
    let reweigh = "UPDATE before.model_experiment_variant SET weight = 9";
    let expected = Error::NotDraft { experiment: foo.experiment.id, status: Status::Active };
    assert_eq!(Error::from(raw(conn, reweigh).await.unwrap_err()), expected);
    let relabel = "UPDATE before.model_experiment_variant SET label = label || '-new'";
    raw(conn, relabel).await.unwrap();
}
