//! Values in the database that break a rule of their type, as another writer may have left them.

use crate::support::TestDatabase;
use crate::support::fixtures::{active, guard, raw, record_new, record_one, request, unguard};
use model_experiments::error::UnreadableValue;
use model_experiments::experiments::{self, ExperimentFilter};
use model_experiments::recording::{self, Usage};
use model_experiments::reports::{feedback, overview};
use model_experiments::values::Status;
use model_experiments::{Error, Page};
use uuid::Uuid;

fn unreadable<T: std::fmt::Debug>(outcome: Result<T, Error>) -> UnreadableValue {
    match outcome {
        Err(Error::Unreadable(unreadable)) => unreadable,
        outcome => panic!("{outcome:?}"),
    }
}

fn place(of: &UnreadableValue) -> (&str, &str, Uuid) {
    (of.table, of.column.as_str(), of.row)
}

#[tokio::test]
async fn are_named_by_table_column_and_row() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    let (experiment, control) = (foo.experiment.id, foo.control.id);
    let version = foo.control_version.id;
    let usage = Usage::new("user-1");
    let new = request(version).client_request_id("client-1");
    record_new(conn, &usage, &new).await;
    // As in a deployment with fewer checks.
    unguard(conn).await;
    raw(
        conn,
        "ALTER TABLE model_experiment DROP CONSTRAINT model_experiment_status_valid;
         ALTER TABLE model_experiment_variant DROP CONSTRAINT model_experiment_variant_weight_positive;
         ALTER TABLE model_experiment_request
            DROP CONSTRAINT model_experiment_request_allocation_subject_valid,
            DROP CONSTRAINT model_experiment_request_system_prompt_sha256_format,
            DROP CONSTRAINT model_experiment_request_request_body_sha256_format",
    )
    .await
    .unwrap();

    let now = foo.candidate_version.effective_at;
    let set = |value| format!("UPDATE model_experiment SET status = '{value}'");
    raw(conn, &set("odd")).await.unwrap();
    let expected = ("model_experiment", "status", *experiment.as_uuid());
    let found = unreadable(experiments::find(conn, experiment).await);
    assert_eq!(place(&found), expected);
    assert!(!found.to_string().contains("'odd'"));
    assert_eq!(place(&unreadable(overview::of_experiment(conn, experiment).await)), expected);
    raw(conn, &set("active")).await.unwrap();

    let set = |weight| {
        format!("UPDATE model_experiment_variant SET weight = {weight} WHERE id = '{control}'")
    };
    raw(conn, &set(0)).await.unwrap();
    let expected = ("model_experiment_variant", "weight", *control.as_uuid());
    assert_eq!(place(&unreadable(experiments::list_variants(conn, experiment).await)), expected);
    assert_eq!(place(&unreadable(overview::of_experiment(conn, experiment).await)), expected);
    let listed = experiments::list_versions_at(conn, experiment, now).await;
    assert_eq!(place(&unreadable(listed)), expected);
    raw(conn, &set(1)).await.unwrap();

    for column in ["allocation_subject", "system_prompt_sha256", "request_body_sha256"] {
        let swap = |from: &str, to: &str| {
            format!(
                "UPDATE model_experiment_request SET {column} = replace({column}, '{from}', '{to}')"
            )
        };
        raw(conn, &swap("e", "E")).await.unwrap();
        let found = unreadable(recording::find_request(conn, usage.id).await);
        assert_eq!(place(&found), ("model_experiment_request", column, *usage.id.as_uuid()));
        // A repetition must not count an unreadable row as the same.
        let found = unreadable(record_one(conn, &usage, &new).await);
        assert_eq!(place(&found), ("model_experiment_request", column, *usage.id.as_uuid()));
        raw(conn, &swap("E", "e")).await.unwrap();
    }
    assert!(recording::find_request(conn, usage.id).await.is_ok());
}

/// What no constraint of the schema refuses, and another writer may have stored.
#[tokio::test]
async fn keep_no_list_from_being_read() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    let other = active(conn, "partner/bar").await.experiment;
    let (id, control, version) = (foo.experiment.id, foo.control.id, foo.control_version.id);
    record_new(conn, &Usage::new("user-1"), &request(version).client_request_id("client-1")).await;
    unguard(conn).await;
    let rows = format!(
        "UPDATE model_experiment SET public_model_id = 'a b' WHERE id = '{id}';
         UPDATE model_experiment_variant SET label = '' WHERE id = '{control}';
         UPDATE model_experiment_variant_version
         SET upstream = '{{\"internal_id\": \"sk-1\", \"base_url\": \"here\"}}' WHERE id = '{version}'"
    );
    raw(conn, &rows).await.unwrap();

    let all = ExperimentFilter::default();
    let listed = experiments::list(conn, &all, Page::first(9)).await.unwrap();
    assert!(listed.iter().any(|of| of.public_model_id.as_str() == "a b"));
    assert!(listed.contains(&other));
    let labels: Vec<_> = experiments::list_variants(conn, id).await.unwrap();
    assert!(labels.iter().any(|of| of.label.as_str().is_empty()));
    let found = feedback::served_by(conn, &["client-1"]).await.unwrap();
    assert!(found[0].label.as_str().is_empty());

    let history = experiments::list_versions(conn, control, Page::first(9)).await.unwrap();
    let overview = overview::of_experiment(conn, id).await.unwrap();
    let current = overview.variants.iter().filter_map(|of| of.current.as_ref());
    let (readable, broken): (Vec<_>, Vec<_>) = current.partition(|of| of.upstream().is_ok());
    assert_eq!((readable.len(), broken.len(), history.len()), (1, 1, 1));
    for found in [broken[0], &history[0]] {
        let error = found.upstream().unwrap_err();
        let expected = ("model_experiment_variant_version", "upstream", *version.as_uuid());
        assert_eq!(place(&error), expected);
        assert!(error.reason.contains("upstream.base_url must be an absolute"), "{error}");
        assert!(!error.to_string().contains("sk-1"));
        assert_eq!(serde_json::to_value(found).unwrap()["upstream"], serde_json::Value::Null);
    }
    // Operations on it go on, too.
    guard(conn).await;
    assert_eq!(experiments::pause(conn, id).await.unwrap().status, Status::Paused);
    assert_eq!(experiments::activate(conn, id).await.unwrap().status, Status::Active);
}
