//! Values in the database that break a rule of their type, as another writer may have left them.

use crate::support::TestDatabase;
use crate::support::fixtures::{active, raw, record_new, record_one, request, unguard};
use model_experiments::error::UnreadableValue;
use model_experiments::recording::{self, Usage};
use model_experiments::reports::{feedback, overview};
use model_experiments::{Error, Page, experiments};
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
    for (column, bad, good) in
        [("status", "odd", "active"), ("public_model_id", "a b", "partner/foo")]
    {
        let set = |value| format!("UPDATE model_experiment SET {column} = '{value}'");
        raw(conn, &set(bad)).await.unwrap();
        let found = unreadable(experiments::find(conn, experiment).await);
        assert_eq!(place(&found), ("model_experiment", column, *experiment.as_uuid()));
        let found = unreadable(overview::of_experiment(conn, experiment).await);
        assert_eq!(place(&found), ("model_experiment", column, *experiment.as_uuid()));
        assert!(!found.to_string().contains(&format!("'{bad}'")));
        raw(conn, &set(good)).await.unwrap();
    }

    for (column, bad, good) in [("weight", "0", "1"), ("label", "''", "'control'")] {
        let set = |value| {
            format!("UPDATE model_experiment_variant SET {column} = {value} WHERE id = '{control}'")
        };
        raw(conn, &set(bad)).await.unwrap();
        let expected = ("model_experiment_variant", column, *control.as_uuid());
        assert_eq!(
            place(&unreadable(experiments::list_variants(conn, experiment).await)),
            expected
        );
        assert_eq!(place(&unreadable(overview::of_experiment(conn, experiment).await)), expected);
        assert_eq!(
            place(&unreadable(experiments::list_versions_at(conn, experiment, now).await)),
            expected
        );
        if column == "label" {
            assert_eq!(
                place(&unreadable(feedback::served_by(conn, &["client-1"]).await)),
                expected
            );
        }
        raw(conn, &set(good)).await.unwrap();
    }

    let set = |json| {
        format!(
            "UPDATE model_experiment_variant_version SET upstream = '{json}' WHERE id = '{version}'"
        )
    };
    raw(conn, &set(r#"{"internal_id": "sk-1", "base_url": "here"}"#)).await.unwrap();
    let expected = ("model_experiment_variant_version", "upstream", *version.as_uuid());
    let found = unreadable(experiments::list_versions(conn, control, Page::first(9)).await);
    assert_eq!(place(&found), expected);
    assert!(found.reason.contains("upstream.base_url must be an absolute"), "{found}");
    assert_eq!(
        place(&unreadable(experiments::find_version_at(conn, control, now).await)),
        expected
    );
    assert_eq!(place(&unreadable(overview::of_experiment(conn, experiment).await)), expected);

    raw(conn, &set(&serde_json::to_string(&foo.control_version.upstream).unwrap())).await.unwrap();
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
