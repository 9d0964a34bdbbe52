//! The schema's constraints: each provoked, each with its own error.

use crate::support::TestDatabase;
use crate::support::fixtures::{Counts, counts, number, raw, text, unguard};
use diesel_async::AsyncPgConnection;
use model_experiments::Error;
use model_experiments::error::Constraint;
use std::collections::BTreeSet;

/// An active experiment and a draft on the same public model id, each with a variant and a version,
/// and two usages: one with a request that the draft's version served, one without.
const ROWS: &str = "
    INSERT INTO model_experiment (id, public_model_id, name) VALUES ($1, 'a/b', 'c'), ($4, 'a/b', 'd');
    INSERT INTO model_experiment_variant (id, experiment_id, label, weight)
    VALUES ($2, $1, 'x', 1), ($5, $4, 'x', 1);
    INSERT INTO model_experiment_variant_version (id, variant_id, upstream, encrypted_api_key)
    VALUES ($3, $2, '{}', '{}'), ($6, $5, '{}', '{}');
    UPDATE model_experiment SET status = 'active', started_at = now() WHERE id = $1;
    INSERT INTO microdollar_usage (id, kilo_user_id, cost, input_tokens, output_tokens,
        cache_write_tokens, cache_hit_tokens)
    VALUES ($7, 'u', 0, 0, 0, 0, 0), ($8, 'u', 0, 0, 0, 0, 0);
    INSERT INTO model_experiment_request (usage_id, variant_version_id, allocation_subject,
        system_prompt_sha256, request_body_sha256)
    VALUES ($7, $6, 'user', '__absent__', '__failed__')";

/// Statements on those rows that each break one rule.
const PROVOCATIONS: [(Constraint, &str); 42] = [
    (
        Constraint::ExperimentId,
        "INSERT INTO model_experiment (id, public_model_id, name) VALUES ($1, 'd/e', 'f')",
    ),
    (Constraint::ExperimentStatus, "UPDATE model_experiment SET status = 'Active' WHERE id = $1"),
    (
        Constraint::ExperimentStatus,
        "INSERT INTO model_experiment (public_model_id, name, status, started_at)
         VALUES ('d/e', 'f', '', now())",
    ),
    (Constraint::ExperimentActiveNotArchived, "UPDATE model_experiment SET is_archived = true"),
    (
        Constraint::ExperimentRouting,
        "UPDATE model_experiment SET status = 'active', started_at = now() WHERE id = $4",
    ),
    (
        Constraint::ExperimentStartedAt,
        "INSERT INTO model_experiment (public_model_id, name, started_at) VALUES ('d/e', 'f', now())",
    ),
    (Constraint::ExperimentStartedAt, "UPDATE model_experiment SET started_at = NULL"),
    (
        Constraint::ExperimentStartedAt,
        "UPDATE model_experiment SET status = 'active', public_model_id = 'd/e' WHERE id = $4",
    ),
    (
        Constraint::ExperimentEndedAt,
        "INSERT INTO model_experiment (public_model_id, name, ended_at) VALUES ('d/e', 'f', now())",
    ),
    (Constraint::ExperimentEndedAt, "UPDATE model_experiment SET ended_at = now()"),
    (
        Constraint::ExperimentEndedAt,
        "UPDATE model_experiment SET status = 'completed' WHERE id = $1",
    ),
    (
        Constraint::ExperimentEndedAt,
        "UPDATE model_experiment SET status = 'completed', ended_at = '1970-01-01' WHERE id = $1",
    ),
    (Constraint::ExperimentInstants, "UPDATE model_experiment SET started_at = '-infinity'"),
    (Constraint::ExperimentInstants, "UPDATE model_experiment SET created_at = '4713-01-01 BC'"),
    (Constraint::ExperimentInstants, "UPDATE model_experiment SET updated_at = '10000-01-01Z'"),
    (
        Constraint::ExperimentInstants,
        "UPDATE model_experiment SET status = 'completed', ended_at = 'infinity' WHERE id = $1",
    ),
    (Constraint::VariantInstants, "UPDATE model_experiment_variant SET created_at = '-infinity'"),
    (
        Constraint::VariantInstants,
        "UPDATE model_experiment_variant SET updated_at = '294000-01-01'",
    ),
    (
        Constraint::VariantId,
        "INSERT INTO model_experiment_variant (id, experiment_id, label, weight)
         VALUES ($2, $4, 'y', 1)",
    ),
    (
        Constraint::VariantExperiment,
        "INSERT INTO model_experiment_variant (experiment_id, label, weight) VALUES ($9, 'y', 1)",
    ),
    (
        Constraint::VariantLabel,
        "INSERT INTO model_experiment_variant (experiment_id, label, weight) VALUES ($4, 'x', 1)",
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
    (
        Constraint::VersionInstants,
        "UPDATE model_experiment_variant_version SET effective_at = 'infinity'",
    ),
    (
        Constraint::VersionInstants,
        "UPDATE model_experiment_variant_version SET effective_at = '-infinity'",
    ),
    (
        Constraint::VersionInstants,
        "UPDATE model_experiment_variant_version SET created_at = '0001-01-01 BC'",
    ),
    (
        Constraint::VersionSize,
        "UPDATE model_experiment_variant_version SET upstream = to_jsonb(repeat('x', 8388607))",
    ),
    (
        Constraint::VersionSize,
        "UPDATE model_experiment_variant_version
         SET encrypted_api_key = to_jsonb(repeat('x', 131071))",
    ),
    (
        Constraint::RequestCreatedAt,
        "UPDATE model_experiment_request SET created_at = '10000-01-01 00:00:00Z'",
    ),
    (Constraint::RequestCreatedAt, "UPDATE model_experiment_request SET created_at = '-infinity'"),
    (Constraint::UsageId, "INSERT INTO microdollar_usage SELECT * FROM microdollar_usage"),
    (
        Constraint::RequestUsageId,
        "INSERT INTO model_experiment_request SELECT * FROM model_experiment_request",
    ),
    (Constraint::RequestUsage, "UPDATE model_experiment_request SET usage_id = $9"),
    (Constraint::RequestVersion, "UPDATE model_experiment_request SET variant_version_id = $9"),
    (Constraint::RequestVersion, "DELETE FROM model_experiment_variant_version WHERE id = $6"),
    (Constraint::RequestVersion, "DELETE FROM model_experiment WHERE id = $4"),
    (
        Constraint::RequestAllocationSubject,
        "UPDATE model_experiment_request SET allocation_subject = 'User'",
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

/// The rules of triggers, which the tests of the guards provoke.
const GUARDS: [Constraint; 13] = [
    Constraint::ExperimentBeginsAsDraft,
    Constraint::ExperimentTransition,
    Constraint::ExperimentReady,
    Constraint::ExperimentDraftOnly,
    Constraint::ExperimentNotCompleted,
    Constraint::ExperimentInstantsKept,
    Constraint::ExperimentIdentity,
    Constraint::ExperimentReadCommitted,
    Constraint::VersionImmutable,
    Constraint::VersionNotBackdated,
    Constraint::VersionNotPostdated,
    Constraint::RequestKept,
    Constraint::NotTruncated,
];

/// SQL in which `$n` stands for the id that ends in n.
fn with_ids(sql: &str) -> String {
    (1..=9).fold(sql.to_owned(), |sql, id| {
        sql.replace(&format!("${id}"), &format!("'00000000-0000-0000-0000-00000000000{id}'"))
    })
}

async fn insert_rows(conn: &mut AsyncPgConnection) {
    raw(conn, &with_ids(ROWS)).await.unwrap();
}

async fn violation(conn: &mut AsyncPgConnection, sql: &str) -> Error {
    match raw(conn, &with_ids(sql)).await {
        Err(error) => error.into(),
        Ok(()) => panic!("the database accepted {sql}"),
    }
}

#[tokio::test]
async fn every_constraint_has_its_own_error() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    insert_rows(conn).await;
    unguard(conn).await;
    let mut provoked = BTreeSet::new();
    for (constraint, sql) in PROVOCATIONS {
        let error = violation(conn, sql).await;
        assert_eq!(error, Error::Violated { constraint }, "{sql}");
        assert!(error.to_string().contains(constraint.name()) && !error.is_retryable());
        provoked.insert(constraint.name());
    }
    let guards = GUARDS.map(Constraint::name);
    let known = Constraint::all().map(Constraint::name).filter(|name| !guards.contains(name));
    assert_eq!(provoked, known.collect());
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 2, variants: 2, versions: 2, usages: 2, requests: 1 }
    );
}

#[tokio::test]
async fn near_violations_are_accepted() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    insert_rows(conn).await;
    // Drafts and completed experiments share a public model id with a routed one.
    for _ in 0..2 {
        let draft = "INSERT INTO model_experiment (public_model_id, name) VALUES ('a/b', 'c')";
        raw(conn, draft).await.unwrap();
    }
    let complete =
        "UPDATE model_experiment SET status = 'completed', ended_at = now() WHERE id = $1";
    raw(conn, &with_ids(complete)).await.unwrap();
    let activate =
        "UPDATE model_experiment SET status = 'active', started_at = now() WHERE id = $4";
    raw(conn, &with_ids(activate)).await.unwrap();
    raw(conn, "UPDATE model_experiment SET is_archived = true WHERE status <> 'active'")
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
        let sql = "SET session_replication_role = replica;
            UPDATE model_experiment_request SET allocation_subject = '$subject';
            RESET session_replication_role";
        raw(conn, &sql.replace("$subject", subject)).await.unwrap();
    }
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 4, variants: 4, versions: 2, usages: 2, requests: 1 }
    );

    // A usage takes its request with it, a draft its variants.
    raw(conn, "DELETE FROM microdollar_usage").await.unwrap();
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 4, variants: 4, versions: 2, ..Counts::default() }
    );
    raw(conn, "DELETE FROM model_experiment WHERE status = 'draft'").await.unwrap();
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 2, variants: 2, versions: 2, ..Counts::default() }
    );
}

#[tokio::test]
async fn other_refusals_are_no_violations_of_the_schema() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    insert_rows(conn).await;
    for (sql, reason) in [
        ("UPDATE model_experiment SET name = NULL", "violates not-null constraint"),
        ("UPDATE model_experiment_variant SET weight = 2147483648", "integer out of range"),
        ("UPDATE model_experiment SET id = 'x'", "invalid input syntax for type uuid"),
        ("UPDATE model_experiment SET colour = 'red'", "column \"colour\""),
    ] {
        match violation(conn, sql).await {
            Error::Database(cause) => assert!(cause.message().contains(reason), "{cause}"),
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

/// Hashes, sentinels, and texts that differ little from them.
fn candidates() -> Vec<String> {
    let digits: String = "0123456789abcdef".repeat(4);
    let mut candidates: Vec<_> =
        (0..=70).map(|length| digits.repeat(2)[..length].to_owned()).collect();
    for at in [0, 1, 31, 62, 63] {
        // The neighbours of the digits in ASCII, upper case, blanks, and multi-byte characters.
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
    insert_rows(conn).await;
    unguard(conn).await;
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
