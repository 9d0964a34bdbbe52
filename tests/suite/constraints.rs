//! The schema's constraints: each provoked, each with its own error, none in the catalogue that isn't known.

use crate::support::TestDatabase;
use crate::support::fixtures::{counts, number, raw, text};
use diesel_async::AsyncPgConnection;
use model_experiments::Error;
use model_experiments::error::Constraint;
use std::collections::BTreeSet;

/// An active experiment with one variant, version, usage and request, and a usage without a request.
const ROWS: &str = "
    INSERT INTO model_experiment (id, public_model_id, name, status)
    VALUES ('00000000-0000-0000-0000-000000000001', 'a/b', 'c', 'active');
    INSERT INTO model_experiment_variant (id, experiment_id, label, weight)
    VALUES ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'x', 1);
    INSERT INTO model_experiment_variant_version (id, variant_id, upstream, encrypted_api_key)
    VALUES ('00000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000002', '{}', '{}');
    INSERT INTO microdollar_usage (id, kilo_user_id, cost, input_tokens, output_tokens,
        cache_write_tokens, cache_hit_tokens)
    SELECT id, 'u', 0, 0, 0, 0, 0 FROM unnest('{00000000-0000-0000-0000-000000000004,
        00000000-0000-0000-0000-000000000005}'::uuid[]) id;
    INSERT INTO model_experiment_request (usage_id, variant_version_id, allocation_subject,
        system_prompt_sha256, request_body_sha256)
    VALUES ('00000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000003', 'user',
        '__absent__', '__failed__')";

/// Copies of those rows that break one rule. `$n` stands for the id that ends in n.
const PROVOCATIONS: [(Constraint, &str); 24] = [
    (
        Constraint::ExperimentId,
        "INSERT INTO model_experiment (id, public_model_id, name) VALUES ($1, 'd/e', 'f')",
    ),
    (Constraint::ExperimentStatus, "UPDATE model_experiment SET status = 'Active'"),
    (
        Constraint::ExperimentStatus,
        "INSERT INTO model_experiment (public_model_id, name, status) VALUES ('d/e', 'f', '')",
    ),
    (Constraint::ExperimentActiveNotArchived, "UPDATE model_experiment SET is_archived = true"),
    (
        Constraint::ExperimentRouting,
        "INSERT INTO model_experiment (public_model_id, name, status) VALUES ('a/b', 'f', 'active')",
    ),
    (
        Constraint::ExperimentRouting,
        "INSERT INTO model_experiment (public_model_id, name, status) VALUES ('a/b', 'f', 'paused')",
    ),
    (
        Constraint::VariantId,
        "INSERT INTO model_experiment_variant (id, experiment_id, label, weight)
         VALUES ($2, $1, 'y', 1)",
    ),
    (
        Constraint::VariantExperiment,
        "INSERT INTO model_experiment_variant (experiment_id, label, weight) VALUES ($9, 'y', 1)",
    ),
    (
        Constraint::VariantLabel,
        "INSERT INTO model_experiment_variant (experiment_id, label, weight) VALUES ($1, 'x', 1)",
    ),
    (Constraint::VariantWeight, "UPDATE model_experiment_variant SET weight = 0"),
    (Constraint::VariantWeight, "UPDATE model_experiment_variant SET weight = -1"),
    (
        Constraint::VersionId,
        "INSERT INTO model_experiment_variant_version (id, variant_id, upstream, encrypted_api_key)
         VALUES ($3, $2, '{}', '{}')",
    ),
    (
        Constraint::VersionVariant,
        "INSERT INTO model_experiment_variant_version (variant_id, upstream, encrypted_api_key)
         VALUES ($9, '{}', '{}')",
    ),
    (Constraint::UsageId, "INSERT INTO microdollar_usage SELECT * FROM microdollar_usage"),
    (
        Constraint::RequestUsageId,
        "INSERT INTO model_experiment_request SELECT * FROM model_experiment_request",
    ),
    (Constraint::RequestUsage, "UPDATE model_experiment_request SET usage_id = $9"),
    (Constraint::RequestVersion, "UPDATE model_experiment_request SET variant_version_id = $9"),
    (Constraint::RequestVersion, "DELETE FROM model_experiment_variant_version"),
    (Constraint::RequestVersion, "DELETE FROM model_experiment"),
    (
        Constraint::RequestAllocationSubject,
        "UPDATE model_experiment_request SET allocation_subject = 'User'",
    ),
    (
        Constraint::RequestAllocationSubject,
        "UPDATE model_experiment_request SET allocation_subject = ''",
    ),
    (
        Constraint::RequestSystemPrompt,
        "UPDATE model_experiment_request SET system_prompt_sha256 = '__none__'",
    ),
    (
        Constraint::RequestBody,
        "UPDATE model_experiment_request SET request_body_sha256 = '__absent__'",
    ),
    (Constraint::RequestBody, "UPDATE model_experiment_request SET request_body_sha256 = ''"),
];

/// The tables of the schema, in a condition on `conrelid` or `indrelid`.
const OURS: &str = "= ANY ('{model_experiment, model_experiment_variant,
    model_experiment_variant_version, microdollar_usage, model_experiment_request}'::regclass[])";

async fn violation(conn: &mut AsyncPgConnection, sql: &str) -> Error {
    let mut sql = sql.to_owned();
    for id in 1..=9 {
        let uuid = format!("'00000000-0000-0000-0000-00000000000{id}'");
        sql = sql.replace(&format!("${id}"), &uuid);
    }
    match raw(conn, &sql).await {
        Err(error) => error.into(),
        Ok(()) => panic!("the database accepted {sql}"),
    }
}

#[tokio::test]
async fn every_constraint_refuses_what_it_is_for_and_is_told_apart() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    raw(conn, ROWS).await.unwrap();
    let mut provoked = BTreeSet::new();
    for (constraint, sql) in PROVOCATIONS {
        let error = violation(conn, sql).await;
        assert_eq!(error, Error::Violated { constraint }, "{sql}");
        assert!(error.to_string().contains(constraint.name()) && !error.is_retryable());
        provoked.insert(constraint.name());
    }
    assert_eq!(provoked, Constraint::all().map(Constraint::name).collect());
    assert_eq!(counts(conn).await, [1, 1, 1, 2, 1]);
}

#[tokio::test]
async fn what_only_looks_like_a_violation_is_accepted() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    raw(conn, ROWS).await.unwrap();
    // Drafts and completed experiments share a public model id with a routed one.
    for status in ["draft", "draft", "completed", "completed"] {
        let sql =
            "INSERT INTO model_experiment (public_model_id, name, status) VALUES ('a/b', 'c', ";
        raw(conn, &format!("{sql}'{status}')")).await.unwrap();
    }
    raw(conn, "UPDATE model_experiment SET is_archived = true WHERE status <> 'active'")
        .await
        .unwrap();
    raw(conn, "UPDATE model_experiment SET status = 'paused' WHERE status = 'active'")
        .await
        .unwrap();
    raw(
        conn,
        "INSERT INTO model_experiment_variant (experiment_id, label, weight)
         SELECT id, 'x', 2147483647 FROM model_experiment WHERE status = 'draft'",
    )
    .await
    .unwrap();
    for subject in ["user", "machine", "ip"] {
        let sql = "UPDATE model_experiment_request SET allocation_subject = ";
        raw(conn, &format!("{sql}'{subject}'")).await.unwrap();
    }
    assert_eq!(counts(conn).await, [5, 3, 1, 2, 1]);

    // A usage takes its request with it, and after that nothing holds the experiment.
    raw(conn, "DELETE FROM microdollar_usage").await.unwrap();
    assert_eq!(counts(conn).await, [5, 3, 1, 0, 0]);
    raw(conn, "DELETE FROM model_experiment").await.unwrap();
    assert_eq!(counts(conn).await, [0; 5]);
}

#[tokio::test]
async fn other_refusals_are_no_violations_of_the_schema() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    raw(conn, ROWS).await.unwrap();
    for (sql, reason) in [
        ("UPDATE model_experiment SET name = NULL", "violates not-null constraint"),
        ("UPDATE model_experiment_variant SET weight = 2147483648", "integer out of range"),
        ("UPDATE model_experiment SET id = 'x'", "invalid input syntax for type uuid"),
        ("UPDATE model_experiment SET colour = 'red'", "column \"colour\""),
    ] {
        match violation(conn, sql).await {
            Error::Database(text) => assert!(text.contains(reason), "{text}"),
            other => panic!("{other:?}"),
        }
    }

    raw(
        conn,
        "CREATE TABLE host_user (id text PRIMARY KEY);
         ALTER TABLE model_experiment ADD CONSTRAINT host_creator_fkey
             FOREIGN KEY (created_by_user_id) REFERENCES host_user (id);
         ALTER TABLE microdollar_usage ADD CONSTRAINT host_cost_not_negative CHECK (cost >= 0);
         ALTER TABLE microdollar_usage ADD CONSTRAINT host_one_project
             EXCLUDE USING btree (project_id WITH =);
         CREATE UNIQUE INDEX host_one_name ON model_experiment (name);",
    )
    .await
    .unwrap();
    for (sql, name) in [
        ("UPDATE model_experiment SET created_by_user_id = 'nobody'", "host_creator_fkey"),
        ("UPDATE microdollar_usage SET cost = -1", "host_cost_not_negative"),
        ("UPDATE microdollar_usage SET project_id = 'p'", "host_one_project"),
        (
            "INSERT INTO model_experiment (public_model_id, name) VALUES ('d/e', 'c')",
            "host_one_name",
        ),
    ] {
        let unknown = Error::UnknownConstraint { name: name.to_owned() };
        assert_eq!(violation(conn, sql).await, unknown);
    }
}

#[tokio::test]
async fn the_catalogue_and_the_library_know_the_same_constraints() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    // Not-null constraints have rows of their own from PostgreSQL 18 on.
    let names = format!(
        "SELECT string_agg(name, ' ') AS text FROM (
            SELECT conname::text AS name FROM pg_constraint
            WHERE contype IN ('c', 'f', 'p', 'u', 'x') AND conrelid {OURS}
            UNION ALL
            SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
            WHERE indisunique AND indrelid {OURS}
            AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype <> 'f')
        ) known"
    );
    let names = text(conn, &names).await;
    let mut catalogue: Vec<_> = names.split(' ').collect();
    let mut library: Vec<_> = Constraint::all().map(Constraint::name).collect();
    catalogue.sort_unstable();
    library.sort_unstable();
    assert_eq!(library.len(), 17);
    assert_eq!(catalogue, library);
}

#[tokio::test]
async fn every_foreign_key_has_an_index_and_the_delete_rule_of_the_design() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let keys = format!(
        "SELECT string_agg(concat_ws(' ', conname, confdeltype, EXISTS (
            SELECT FROM pg_index
            WHERE indrelid = conrelid AND indpred IS NULL AND indisvalid
            AND (indkey::smallint[])[0:cardinality(conkey) - 1] = conkey
        )), E'\\n' ORDER BY conname) AS text
        FROM pg_constraint WHERE contype = 'f' AND conrelid {OURS}"
    );
    assert_eq!(
        text(conn, &keys).await,
        "model_experiment_request_usage_id_fkey c t\n\
         model_experiment_request_variant_version_id_fkey a t\n\
         model_experiment_variant_experiment_id_fkey c t\n\
         model_experiment_variant_version_variant_id_fkey c t"
    );
}

/// Hashes, sentinels, and what comes near to them.
fn candidates() -> Vec<String> {
    let digits: String = "0123456789abcdef".repeat(4);
    let mut candidates: Vec<_> =
        (0..=70).map(|length| digits.repeat(2)[..length].to_owned()).collect();
    for at in [0, 1, 31, 62, 63] {
        // The neighbours of the digits in ASCII, other cases, blanks, and characters of several bytes.
        for other in "/:`gGAF@ \n\r\t-_'é０ａ\u{200b}".chars() {
            for replaced in 1..=other.len_utf8() {
                let end = (at + replaced).min(64);
                candidates.push(format!("{}{other}{}", &digits[..at], &digits[end..]));
            }
            candidates.push(format!("{}{other}{}", &digits[..at], &digits[at..]));
        }
    }
    for fill in ["0", "9", "a", "f", "A", "F", "g", "_"] {
        candidates.push(fill.repeat(64));
    }
    for sentinel in ["absent", "failed", "deleted", "unknown", ""] {
        candidates.push(format!("__{sentinel}__"));
        for near in ["__{}_", "_{}__", "{}", " __{}__", "__{}__ ", "__{}__\n"] {
            candidates.push(near.replace("{}", sentinel));
        }
        candidates.push(format!("__{}__", sentinel.to_uppercase()));
    }
    candidates.push(format!("{digits}\n"));
    candidates.push(format!("\n{digits}"));
    candidates.push(format!("{digits}\n{digits}"));
    candidates
}

#[tokio::test]
async fn the_hash_checks_accept_exactly_hashes_and_sentinels() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let candidates = candidates();
    let is_hash = |text: &str| {
        text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let values: Vec<_> =
        candidates.iter().map(|text| format!("'{}'", text.replace('\'', "''"))).collect();
    for (constraint, column, sentinels) in [
        (
            Constraint::RequestSystemPrompt,
            "system_prompt_sha256",
            &["__absent__", "__failed__", "__deleted__"][..],
        ),
        (Constraint::RequestBody, "request_body_sha256", &["__failed__", "__deleted__"][..]),
    ] {
        let expression = format!(
            "SELECT pg_get_expr(conbin, conrelid) AS text FROM pg_constraint WHERE conname = '{}'",
            constraint.name()
        );
        let check = text(conn, &expression).await;
        let verdicts = format!(
            "SELECT string_agg(concat(
                CASE WHEN {check} THEN 1 ELSE 0 END,
                CASE WHEN {column} ~ '^[0-9a-f]{{64}}$' OR {column} = ANY ('{{{}}}') THEN 1 ELSE 0 END
            ), ' ' ORDER BY number) AS text
            FROM unnest(ARRAY[{}]) WITH ORDINALITY candidate ({column}, number)",
            sentinels.join(","),
            values.join(", "),
        );
        let verdicts = text(conn, &verdicts).await;
        assert_eq!(verdicts.split(' ').count(), candidates.len());
        let mut accepted = 0;
        for (candidate, verdict) in candidates.iter().zip(verdicts.split(' ')) {
            let is_valid = is_hash(candidate) || sentinels.contains(&candidate.as_str());
            assert_eq!(verdict, if is_valid { "11" } else { "00" }, "{column}: {candidate:?}");
            accepted += i32::from(is_valid);
        }
        assert!(accepted > 5 && candidates.len() > 300, "{accepted} of {}", candidates.len());
    }
}

#[tokio::test]
async fn a_request_is_stored_with_a_hash_and_refused_with_less() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    raw(conn, ROWS).await.unwrap();
    let hash = "0123456789abcdef".repeat(4);
    let upper = hash.to_uppercase();
    for (column, constraint) in [
        ("system_prompt_sha256", Constraint::RequestSystemPrompt),
        ("request_body_sha256", Constraint::RequestBody),
    ] {
        let set = |value: &str| format!("UPDATE model_experiment_request SET {column} = '{value}'");
        for value in [hash.as_str(), "__failed__", "__deleted__"] {
            raw(conn, &set(value)).await.unwrap();
        }
        for value in [
            &hash[1..],
            &format!("{hash}0"),
            &upper,
            &format!("{}g", &hash[1..]),
            &format!("{hash}\n"),
        ] {
            assert_eq!(
                violation(conn, &set(value)).await,
                Error::Violated { constraint },
                "{value}"
            );
        }
        let kept = format!(
            "SELECT count(*) AS number FROM model_experiment_request
            WHERE {column} = '__deleted__'"
        );
        assert_eq!(number(conn, &kept).await, 1);
    }
}
