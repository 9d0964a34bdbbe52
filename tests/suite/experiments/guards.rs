//! The guards: the database refuses to any writer what the operations refuse, with the same error.

use crate::support::fixtures::{
    Counts, Ready, active, counts, draft, key, label, number, public_model_id, raw, ready,
    record_new, request, until_blocked, upstream, weight,
};
use crate::support::{TestDatabase, dump, repository};
use chrono::Duration;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};
use model_experiments::error::{Constraint, NotReady};
use model_experiments::experiments::{self, ExperimentChanges, NewVersion};
use model_experiments::recording::Usage;
use model_experiments::values::{ExperimentId, Status, Timestamp, VariantId};
use model_experiments::{Error, Result};

async fn refused(conn: &mut AsyncPgConnection, sql: &str) -> Error {
    match raw(conn, sql).await {
        Err(error) => error.into(),
        Ok(()) => panic!("the database accepted {sql}"),
    }
}

/// The statement that moves an experiment to `status` as the operations do.
fn moving(experiment: ExperimentId, status: Status) -> String {
    let instants = match status {
        Status::Draft => "started_at = NULL, ended_at = NULL",
        Status::Active | Status::Paused => {
            "started_at = coalesce(started_at, now()), ended_at = NULL"
        }
        Status::Completed => {
            "started_at = coalesce(started_at, now()), ended_at = coalesce(ended_at, now())"
        }
    };
    format!("UPDATE model_experiment SET status = '{status}', {instants} WHERE id = '{experiment}'")
}

/// The insertion of a version that is effective at an instant.
fn version_of(variant: VariantId, effective_at: &str) -> String {
    format!(
        "INSERT INTO model_experiment_variant_version
            (variant_id, upstream, encrypted_api_key, effective_at)
         VALUES ('{variant}', '{{}}', '{{}}', {effective_at})"
    )
}

/// An experiment that lacks nothing, in `status`.
async fn experiment_in(conn: &mut AsyncPgConnection, status: Status) -> ExperimentId {
    let model = format!("partner/{}", uuid::Uuid::now_v7());
    let id = ready(conn, &model).await.experiment.id;
    if status != Status::Draft {
        experiments::activate(conn, id).await.unwrap();
    }
    if status == Status::Paused {
        experiments::pause(conn, id).await.unwrap();
    }
    if status == Status::Completed {
        experiments::complete(conn, id).await.unwrap();
    }
    id
}

/// The experiment's variant with the lowest id.
async fn first_variant(conn: &mut AsyncPgConnection, id: ExperimentId) -> VariantId {
    let variants = experiments::list_variants(conn, id).await.unwrap();
    variants.first().unwrap().id
}

/// The operation that makes an experiment `to`; `None` of draft, to which no operation leads.
async fn transition(
    conn: &mut AsyncPgConnection,
    id: ExperimentId,
    to: Status,
) -> Option<Result<()>> {
    match to {
        Status::Draft => None,
        Status::Active => Some(experiments::activate(conn, id).await.map(drop)),
        Status::Paused => Some(experiments::pause(conn, id).await.map(drop)),
        Status::Completed => Some(experiments::complete(conn, id).await.map(drop)),
    }
}

#[tokio::test]
async fn a_status_changes_only_as_the_operations_change_it() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let mut refusals = 0;
    for from in Status::ALL {
        for to in Status::ALL {
            let id = experiment_in(conn, from).await;
            let outcome = raw(conn, &moving(id, to)).await.map_err(Error::from);
            let same = experiment_in(conn, from).await;
            let expected = match transition(conn, same, to).await {
                Some(expected) => expected,
                None if from == to => Ok(()),
                None => Err(Error::InvalidTransition { experiment: same, from, to }),
            };
            match (outcome, expected) {
                (Ok(()), Ok(())) => {}
                (
                    Err(outcome),
                    Err(Error::InvalidTransition { experiment, from: same_from, to: same_to }),
                ) => {
                    assert_eq!((experiment, same_from, same_to), (same, from, to));
                    assert_eq!(outcome, Error::InvalidTransition { experiment: id, from, to });
                    refusals += 1;
                }
                (outcome, expected) => panic!("{from} to {to}: {outcome:?}, {expected:?}"),
            }
        }
    }
    // Of twelve changes, five are transitions of the lifecycle.
    assert_eq!(refusals, 7);
}

#[tokio::test]
async fn an_experiment_is_activated_only_when_it_lacks_nothing() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = draft(conn, "partner/foo").await.id;
    let not_ready = |reason| Error::NotReady { experiment: id, reason };
    let bare = not_ready(NotReady::NoVariant);
    assert_eq!(experiments::activate(conn, id).await, Err(bare.clone()));
    assert_eq!(refused(conn, &moving(id, Status::Active)).await, bare);

    let name = label("\"späte\" 'Variante'");
    let variant = experiments::add_variant(conn, id, &name, weight(1)).await.unwrap().id;
    let (upstream, key) = (upstream("rc1"), key("sk-1"));
    let scheduled =
        NewVersion::with_key(&upstream, &key).effective_at(Timestamp::now() + Duration::days(1));
    experiments::publish(conn, variant, scheduled).await.unwrap();
    let lacking = not_ready(NotReady::NoCurrentVersion { variant, label: name });
    assert_eq!(experiments::activate(conn, id).await, Err(lacking.clone()));
    assert_eq!(refused(conn, &moving(id, Status::Active)).await, lacking);

    experiments::publish(conn, variant, NewVersion::with_key(&upstream, &key)).await.unwrap();
    raw(conn, &moving(id, Status::Active)).await.unwrap();
    assert_eq!(experiments::find(conn, id).await.unwrap().unwrap().status, Status::Active);
}

#[tokio::test]
async fn an_experiment_is_not_active_and_archived() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let (active, ready) = (active(conn, "partner/a").await, ready(conn, "partner/b").await);
    let archive = |id| format!("UPDATE model_experiment SET is_archived = true WHERE id = '{id}'");
    let id = active.experiment.id;
    // A constraint says so to SQL, before any guard does.
    let violated = Error::Violated { constraint: Constraint::ExperimentActiveNotArchived };
    assert_eq!(refused(conn, &archive(id)).await, violated);
    assert_eq!(experiments::archive(conn, id).await, Err(Error::ActiveNotArchivable(id)));

    let bare = draft(conn, "partner/c").await.id;
    for id in [ready.experiment.id, bare] {
        raw(conn, &archive(id)).await.unwrap();
        assert_eq!(refused(conn, &moving(id, Status::Active)).await, violated);
        let archived = Error::NotReady { experiment: id, reason: NotReady::Archived };
        assert_eq!(experiments::activate(conn, id).await, Err(archived));
    }
}

#[tokio::test]
async fn structure_is_fixed_after_draft() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    for status in [Status::Active, Status::Paused, Status::Completed] {
        let id = experiment_in(conn, status).await;
        let variant = first_variant(conn, id).await;
        let before = counts(conn).await;
        let not_draft = Error::NotDraft { experiment: id, status };
        let moved = ExperimentChanges::default().public_model_id(public_model_id("partner/new"));
        let (name, share) = (label("new"), weight(9));
        for refusal in [
            experiments::add_variant(conn, id, &name, share).await.map(drop),
            experiments::remove_variant(conn, variant).await,
            experiments::set_weight(conn, variant, share).await.map(drop),
            experiments::update(conn, id, &moved).await.map(drop),
            experiments::delete(conn, id).await,
        ] {
            assert_eq!(refusal, Err(not_draft.clone()));
        }
        for sql in [
            "INSERT INTO model_experiment_variant (experiment_id, label, weight) VALUES ($id, 'new', 9)",
            "DELETE FROM model_experiment_variant WHERE id = $variant",
            "UPDATE model_experiment_variant SET weight = 9 WHERE id = $variant",
            "DELETE FROM model_experiment_variant_version WHERE variant_id = $variant",
            "UPDATE model_experiment SET public_model_id = 'a/b' WHERE id = $id",
            "DELETE FROM model_experiment WHERE id = $id",
        ] {
            let sql =
                sql.replace("$id", &format!("'{id}'")).replace("$variant", &format!("'{variant}'"));
            assert_eq!(refused(conn, &sql).await, not_draft, "{sql}");
        }
        assert_eq!(counts(conn).await, before);
    }
}

#[tokio::test]
async fn versions_and_labels_change_until_completed() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let upstream = upstream("rc2");
    for status in Status::ALL {
        let id = experiment_in(conn, status).await;
        let variant = first_variant(conn, id).await;
        let expected = if status == Status::Completed { Err(Error::Completed(id)) } else { Ok(()) };

        let relabel =
            format!("UPDATE model_experiment_variant SET label = 'new' WHERE id = '{variant}'");
        assert_eq!(raw(conn, &relabel).await.map_err(Error::from), expected);
        let relabelled = experiments::set_label(conn, variant, &label("newer")).await;
        assert_eq!(relabelled.map(drop), expected);

        assert_eq!(raw(conn, &version_of(variant, "now()")).await.map_err(Error::from), expected);
        let published =
            experiments::publish(conn, variant, NewVersion::keeping_key(&upstream)).await;
        assert_eq!(published.map(drop), expected);
        if status == Status::Completed {
            let late = refused(conn, &version_of(variant, "now() - interval '1 day'")).await;
            assert_eq!(late, Error::Completed(id));
        }
    }
}

#[tokio::test]
async fn a_version_is_published_for_now_or_later() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let variant = ready(conn, "partner/foo").await.control.id;
    let new = upstream("past");
    let now = Timestamp::now();
    for (zone, age) in [("UTC", Duration::hours(1)), ("Asia/Kathmandu", Duration::days(40_000))] {
        raw(conn, &format!("SET TimeZone = '{zone}'")).await.unwrap();
        let past = now - age;
        let backdated = NewVersion::keeping_key(&new).effective_at(past);
        let refusals = [
            experiments::publish(conn, variant, backdated).await.unwrap_err(),
            refused(conn, &version_of(variant, &format!("'{past}'"))).await,
            // A row whose created_at is backdated too.
            refused(
                conn,
                &version_of(variant, &format!("'{past}'"))
                    .replace("(variant_id", "(created_at, variant_id")
                    .replace("VALUES (", &format!("VALUES ('{past}', ")),
            )
            .await,
        ];
        for refusal in refusals {
            match refusal {
                Error::Backdated { variant: of, effective_at, now: clock } => {
                    assert_eq!((of, effective_at), (variant, past));
                    assert!(clock > past);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // The earliest instant is the start of the transaction, the default of an insertion.
    let late = format!(
        "BEGIN; {}; SELECT pg_sleep(0.001);
         INSERT INTO model_experiment_variant_version (variant_id, upstream, encrypted_api_key)
         VALUES ('{variant}', '{{}}', '{{}}'); COMMIT",
        version_of(variant, "now() + interval '1 day'")
    );
    raw(conn, &late).await.unwrap();
    assert_eq!(counts(conn).await.versions, 4);
}

#[tokio::test]
async fn changes_that_no_operation_makes_are_refused_by_their_rule() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = experiment_in(conn, Status::Completed).await;
    active(conn, "partner/foo").await;
    let bare = draft(conn, "partner/bare").await.id;
    let unpublished = draft(conn, "partner/unpublished").await.id;
    experiments::add_variant(conn, unpublished, &label("a"), weight(1)).await.unwrap();
    let insert = |status| {
        format!(
            "INSERT INTO model_experiment (public_model_id, name, status, started_at, ended_at)
             VALUES ('d/e', 'f', '{status}', now(), CASE '{status}' WHEN 'completed' THEN now() END)"
        )
    };
    let version = "UPDATE model_experiment_variant_version SET";
    for (sql, constraint) in [
        (insert("active"), Constraint::ExperimentBeginsAsDraft),
        (insert("paused"), Constraint::ExperimentBeginsAsDraft),
        (insert("completed"), Constraint::ExperimentBeginsAsDraft),
        (
            "UPDATE model_experiment SET started_at = started_at - interval '1 us'".to_owned(),
            Constraint::ExperimentInstantsKept,
        ),
        (
            format!("UPDATE model_experiment SET ended_at = now() WHERE id = '{id}'"),
            Constraint::ExperimentInstantsKept,
        ),
        (
            format!("UPDATE model_experiment SET id = gen_random_uuid() WHERE id = '{bare}'"),
            Constraint::ExperimentIdentity,
        ),
        (
            format!(
                "UPDATE model_experiment_variant SET id = gen_random_uuid() WHERE experiment_id = '{unpublished}'"
            ),
            Constraint::ExperimentIdentity,
        ),
        (
            format!(
                "UPDATE model_experiment_variant SET experiment_id = '{bare}'
                 WHERE experiment_id = '{unpublished}'"
            ),
            Constraint::ExperimentIdentity,
        ),
        (
            "UPDATE model_experiment SET created_at = created_at - interval '1 us'".to_owned(),
            Constraint::ExperimentIdentity,
        ),
        (
            "UPDATE model_experiment SET created_by_user_id = 'user-1'".to_owned(),
            Constraint::ExperimentIdentity,
        ),
        (
            "UPDATE model_experiment_variant SET created_at = now()".to_owned(),
            Constraint::ExperimentIdentity,
        ),
        (format!("{version} upstream = '{{}}'"), Constraint::VersionImmutable),
        (format!("{version} encrypted_api_key = '{{}}'"), Constraint::VersionImmutable),
        (format!("{version} effective_at = now()"), Constraint::VersionImmutable),
        (format!("{version} created_by = 'user-1'"), Constraint::VersionImmutable),
        ("TRUNCATE model_experiment CASCADE".to_owned(), Constraint::NotTruncated),
        ("TRUNCATE model_experiment_variant CASCADE".to_owned(), Constraint::NotTruncated),
        ("TRUNCATE model_experiment_variant_version CASCADE".to_owned(), Constraint::NotTruncated),
        ("TRUNCATE model_experiment_request".to_owned(), Constraint::NotTruncated),
        ("TRUNCATE microdollar_usage CASCADE".to_owned(), Constraint::NotTruncated),
    ] {
        let error = refused(conn, &sql).await;
        assert_eq!(error, Error::Violated { constraint }, "{sql}");
        assert!(!error.is_retryable());
    }
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 4, variants: 5, versions: 4, ..Counts::default() }
    );
}

#[tokio::test]
async fn changes_of_the_host_are_accepted() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = experiment_in(conn, Status::Active).await;
    // Its users may go, and its scripts may insert what is there.
    let host = format!(
        "CREATE TABLE host_user (id text PRIMARY KEY);
         INSERT INTO host_user VALUES ('user-1'), ('user-2');
         ALTER TABLE model_experiment_variant_version ADD FOREIGN KEY (created_by)
             REFERENCES host_user ON DELETE SET NULL;
         ALTER TABLE model_experiment ADD FOREIGN KEY (created_by_user_id)
             REFERENCES host_user ON DELETE SET NULL;
         INSERT INTO model_experiment (public_model_id, name, created_by_user_id)
         VALUES ('a/b', 'c', 'user-1');
         INSERT INTO model_experiment_variant_version
             (variant_id, upstream, encrypted_api_key, created_by)
         SELECT id, '{{}}', '{{}}', 'user-1' FROM model_experiment_variant;
         DELETE FROM host_user;
         INSERT INTO model_experiment (id, public_model_id, name, status, started_at)
         VALUES ('{id}', 'a/b', 'c', 'active', now())
         ON CONFLICT (id) DO UPDATE SET name = 'd'"
    );
    raw(conn, &host).await.unwrap();
    assert_eq!(experiments::find(conn, id).await.unwrap().unwrap().name, "d");
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 2, variants: 2, versions: 4, ..Counts::default() }
    );
}

#[tokio::test]
async fn guards_find_the_tables_for_any_role_and_search_path() {
    let db = TestDatabase::empty().await;
    let conn = &mut db.connect().await;
    // A deployment in another schema, and a role that may write and has no search path to it.
    raw(conn, "CREATE SCHEMA app; SET search_path = app").await.unwrap();
    for migration in repository::migrations() {
        raw(conn, &migration.up).await.unwrap();
    }
    let (open, fixed) =
        (experiment_in(conn, Status::Draft).await, experiment_in(conn, Status::Active).await);
    let role = format!("writer_{}", uuid::Uuid::now_v7().simple());
    raw(
        conn,
        &format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA app TO {role};
             GRANT SELECT, UPDATE, DELETE ON app.model_experiment_variant TO {role};
             CREATE TEMP TABLE model_experiment (LIKE app.model_experiment);
             CREATE TEMP TABLE model_experiment_variant (LIKE app.model_experiment_variant);
             SET ROLE {role}; SET search_path = public"
        ),
    )
    .await
    .unwrap();
    let reweigh = |id| {
        format!("UPDATE app.model_experiment_variant SET weight = 9 WHERE experiment_id = '{id}'")
    };
    raw(conn, &reweigh(open)).await.unwrap();
    let not_draft = Error::NotDraft { experiment: fixed, status: Status::Active };
    assert_eq!(refused(conn, &reweigh(fixed)).await, not_draft);
    let drop = format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}");
    raw(conn, &drop).await.unwrap();
}

#[tokio::test]
async fn nothing_that_a_snapshot_may_overlook_changes_at_stricter_isolation() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = experiment_in(conn, Status::Draft).await;
    let variant = first_variant(conn, id).await;
    let (upstream, key, name) = (upstream("rc2"), key("sk-2"), label("new"));
    let before = experiments::list_current_versions(conn, id).await.unwrap();
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        let refusal = Error::IsolationTooStrict { experiment: id, isolation: isolation.to_owned() };
        let begin = format!("BEGIN ISOLATION LEVEL {isolation}");
        for sql in [
            "INSERT INTO model_experiment_variant (experiment_id, label, weight) VALUES ('$id', 'new', 9)",
            "UPDATE model_experiment_variant SET weight = 9 WHERE id = '$variant'",
            "UPDATE model_experiment_variant SET label = 'new' WHERE id = '$variant'",
            "DELETE FROM model_experiment_variant WHERE id = '$variant'",
            "INSERT INTO model_experiment_variant_version (variant_id, upstream, encrypted_api_key)
             VALUES ('$variant', '{}', '{}')",
            "DELETE FROM model_experiment_variant_version WHERE variant_id = '$variant'",
            "UPDATE model_experiment SET status = 'active', started_at = now() WHERE id = '$id'",
        ] {
            raw(conn, &begin).await.unwrap();
            let sql = sql.replace("$id", &id.to_string()).replace("$variant", &variant.to_string());
            assert_eq!(refused(conn, &sql).await, refusal, "{sql}");
            raw(conn, "ROLLBACK").await.unwrap();
        }

        let new = NewVersion::with_key(&upstream, &key);
        for operation in 0..7 {
            let outcome = within(conn, isolation, async |conn| match operation {
                0 => experiments::add_variant(conn, id, &name, weight(9)).await.map(drop),
                1 => experiments::set_weight(conn, variant, weight(9)).await.map(drop),
                2 => experiments::set_label(conn, variant, &name).await.map(drop),
                3 => experiments::remove_variant(conn, variant).await,
                4 => experiments::publish(conn, variant, new).await.map(drop),
                5 => experiments::rotate_key(conn, variant, &key).await.map(drop),
                _ => experiments::activate(conn, id).await.map(drop),
            })
            .await;
            assert_eq!(outcome, Err(refusal.clone()), "operation {operation}");
        }
    }
    assert_eq!(experiments::list_current_versions(conn, id).await.unwrap(), before);

    // A session's own default doesn't matter to an operation's own transaction.
    let defaults = "SET default_transaction_isolation = 'serializable';
        SET default_transaction_read_only = on";
    raw(conn, defaults).await.unwrap();
    experiments::rotate_key(conn, variant, &key).await.unwrap();
    assert_eq!(experiments::activate(conn, id).await.unwrap().status, Status::Active);
}

/// Runs `work` in a transaction of the caller's at `isolation`, which began before.
async fn within(
    conn: &mut AsyncPgConnection,
    isolation: &str,
    work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<()>,
) -> Result<()> {
    AnsiTransactionManager::begin_transaction_sql(
        conn,
        &format!("BEGIN ISOLATION LEVEL {isolation}"),
    )
    .await
    .unwrap();
    let outcome = work(conn).await;
    AnsiTransactionManager::rollback_transaction(conn).await.unwrap();
    outcome
}

#[tokio::test]
async fn a_draft_takes_all_it_has_with_it() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let doomed = ready(conn, "partner/doomed").await;
    let kept = ready(conn, "partner/kept").await;
    for sql in [
        format!(
            "DELETE FROM model_experiment_variant_version WHERE variant_id = '{}'",
            kept.control.id
        ),
        format!("DELETE FROM model_experiment_variant WHERE id = '{}'", kept.candidate.id),
        format!("DELETE FROM model_experiment WHERE id = '{}'", doomed.experiment.id),
    ] {
        raw(conn, &sql).await.unwrap();
    }
    assert_eq!(counts(conn).await, Counts { experiments: 1, variants: 1, ..Counts::default() });
}

#[tokio::test]
async fn every_change_sets_updated_at() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = ready(conn, "partner/foo").await;
    for (table, change, id) in [
        ("model_experiment", "name = name", foo.experiment.id.to_string()),
        ("model_experiment_variant", "label = 'new'", foo.control.id.to_string()),
    ] {
        let changed = format!("UPDATE {table} SET {change} WHERE id = '{id}'");
        let moved = format!(
            "SELECT count(*) AS number FROM {table} WHERE updated_at > created_at AND id = '{id}'"
        );
        assert_eq!(number(conn, &moved).await, 0);
        raw(conn, &changed).await.unwrap();
        assert_eq!(number(conn, &moved).await, 1);
        // A writer may set the instant itself.
        raw(conn, &changed.replace(" WHERE", ", updated_at = created_at WHERE")).await.unwrap();
        assert_eq!(number(conn, &moved).await, 0);
    }
}

/// A change of an experiment's structure, by an operation or by SQL.
#[derive(Debug, Clone, Copy)]
enum Change {
    Insert,
    Reweigh,
    Delete,
}

impl Change {
    fn sql(self, ready: &Ready) -> String {
        let (id, variant) = (ready.experiment.id, ready.control.id);
        match self {
            Self::Insert => format!(
                "INSERT INTO model_experiment_variant (experiment_id, label, weight)
                 VALUES ('{id}', 'new', 9)"
            ),
            Self::Reweigh => {
                format!("UPDATE model_experiment_variant SET weight = 9 WHERE id = '{variant}'")
            }
            Self::Delete => {
                format!("DELETE FROM model_experiment_variant WHERE experiment_id = '{id}'")
            }
        }
    }

    async fn operate(self, conn: &mut AsyncPgConnection, ready: &Ready) -> Result<()> {
        let (id, variant) = (ready.experiment.id, ready.control.id);
        match self {
            Self::Insert => {
                experiments::add_variant(conn, id, &label("new"), weight(9)).await.map(drop)
            }
            Self::Reweigh => experiments::set_weight(conn, variant, weight(9)).await.map(drop),
            Self::Delete => experiments::remove_variant(conn, variant).await,
        }
    }
}

#[tokio::test]
async fn writers_who_race_wait_for_each_other() {
    let db = TestDatabase::new().await;
    let (conn, other) = (&mut db.connect().await, &mut db.connect().await);
    let watcher = &mut db.connect().await;
    for change in [Change::Insert, Change::Reweigh, Change::Delete] {
        for by_operation in [true, false] {
            // SQL changes the structure, and then the experiment is activated.
            let first = ready(conn, &format!("a/{change:?}{by_operation}")).await;
            let id = first.experiment.id;
            raw(other, &format!("BEGIN; {}", change.sql(&first))).await.unwrap();
            let activate = async {
                if by_operation {
                    experiments::activate(conn, id).await.map(drop)
                } else {
                    Ok(raw(conn, &moving(id, Status::Active)).await?)
                }
            };
            let (activated, ()) = tokio::join!(activate, async {
                until_blocked(watcher).await;
                raw(other, "COMMIT").await.unwrap();
            });
            let not_ready = |reason| Err(Error::NotReady { experiment: id, reason });
            let left = experiments::list_variants(conn, id).await.unwrap();
            let new = left.iter().find(|variant| variant.label == label("new"));
            let expected = match (change, new) {
                (Change::Reweigh, _) => Ok(()),
                (Change::Delete, _) => not_ready(NotReady::NoVariant),
                (Change::Insert, new) => not_ready(NotReady::NoCurrentVersion {
                    variant: new.unwrap().id,
                    label: label("new"),
                }),
            };
            assert_eq!(activated, expected, "{change:?}, by an operation: {by_operation}");

            // SQL activates the experiment, and then the structure is changed.
            let second = ready(conn, &format!("b/{change:?}{by_operation}")).await;
            let id = second.experiment.id;
            raw(other, &format!("BEGIN; {}", moving(id, Status::Active))).await.unwrap();
            let changed = async {
                if by_operation {
                    change.operate(conn, &second).await
                } else {
                    Ok(raw(conn, &change.sql(&second)).await?)
                }
            };
            let (changed, ()) = tokio::join!(changed, async {
                until_blocked(watcher).await;
                raw(other, "COMMIT").await.unwrap();
            });
            let not_draft = Error::NotDraft { experiment: id, status: Status::Active };
            assert_eq!(changed, Err(not_draft), "{change:?}, by an operation: {by_operation}");
        }
    }
}

#[tokio::test]
async fn a_writer_that_waits_for_an_operation_does_not_block_it() {
    let db = TestDatabase::new().await;
    let (conn, other) = (&mut db.connect().await, &mut db.connect().await);
    let id = ready(conn, "partner/foo").await.experiment.id;
    let insert = format!(
        "INSERT INTO model_experiment_variant (experiment_id, label, weight) VALUES ('{id}', 'new', 1)"
    );
    // As an activation: it locks the experiment, reads it, and then changes it.
    raw(other, "BEGIN; SELECT FROM model_experiment FOR UPDATE").await.unwrap();
    let (refusal, ()) = tokio::join!(refused(conn, &insert), async {
        until_blocked(&mut db.connect().await).await;
        raw(other, &format!("{}; COMMIT", moving(id, Status::Active))).await.unwrap();
    });
    assert_eq!(refusal, Error::NotDraft { experiment: id, status: Status::Active });
}

#[tokio::test]
async fn recording_fires_no_guard() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    // 4 is an insertion.
    let triggers = "SELECT count(*) AS number FROM pg_trigger
        WHERE NOT tgisinternal AND tgrelid = 'microdollar_usage'::regclass
        OR NOT tgisinternal AND tgrelid = 'model_experiment_request'::regclass AND tgtype & 4 <> 0";
    assert_eq!(number(conn, triggers).await, 0);
    // On a distributed table a trigger can't notify, and its table has another name.
    let unportable = "SELECT count(*) AS number FROM pg_proc
        WHERE proname LIKE 'model_experiment%' AND prosrc ~* 'notify|tg_(table_name|relname)'";
    assert_eq!(number(conn, unportable).await, 0);
}

#[tokio::test]
async fn a_full_database_is_dumped_and_restored_with_its_guards() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    for status in Status::ALL {
        let id = experiment_in(conn, status).await;
        let variant = first_variant(conn, id).await;
        let now = Timestamp::now();
        let version = experiments::find_version_at(conn, variant, now).await.unwrap().unwrap().id;
        let (usage, request) = (Usage::new("user-1"), request(version));
        record_new(conn, &usage, &request).await;
    }
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 4, variants: 8, versions: 8, usages: 4, requests: 4 }
    );
    let data = ["--data-only", "--disable-triggers", "--exclude-table=__diesel_schema_migrations"];

    let Some(whole) = dump::dump(&db.url(), &[]) else { return };
    let restored = TestDatabase::empty().await;
    if dump::restore(&restored.url(), &whole).is_none() {
        return;
    }
    assert_eq!(dump::dump(&restored.url(), &[]).unwrap(), whole);

    let rows = dump::dump(&db.url(), &data).unwrap();
    let refilled = TestDatabase::new().await;
    dump::restore(&refilled.url(), &rows).unwrap();
    assert_eq!(dump::dump(&refilled.url(), &data).unwrap(), rows);

    for copy in [restored, refilled] {
        let conn = &mut copy.connect().await;
        assert_eq!(
            counts(conn).await,
            Counts { experiments: 4, variants: 8, versions: 8, usages: 4, requests: 4 }
        );
        let error =
            refused(conn, "UPDATE model_experiment_variant_version SET upstream = '{}'").await;
        assert_eq!(error, Error::Violated { constraint: Constraint::VersionImmutable });
    }
}
