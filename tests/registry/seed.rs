//! A database that has grown, and the arguments with which queries are asked of it.

use chrono::Duration;
use std::ops::Range;
use uuid::Uuid;

use super::support::TestDatabase;
use super::support::fixtures::{self, guard, raw, unguard};
use crate::values::{
    EncryptedApiKey, ExperimentId, PublicModelId, Timestamp, Upstream, UsageId, VariantId,
    VersionId,
};

/// The suffix of a query's case that is asked of variants with 5,000 versions instead of 50.
pub(crate) const LONG: &str = ".with a long history";

/// 1,000 experiments of two variants with 50 versions each: 250 are routed, one for each of 250
/// public model ids, 50 are drafts, and of the completed ones half are archived. One more, the
/// longest, has 5,000 versions a variant. 200,000 usages and requests are spread over 50 days and
/// the versions of the routed ones; 20,000 more usages, on 25 public model ids, have no request.
const ROWS: &str = "
CREATE FUNCTION pg_temp.id(kind int, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$ SELECT format('%s-0000-7000-8000-%s', lpad(kind::text, 8, '0'), lpad(to_hex(n), 12, '0'))::uuid $$;

INSERT INTO model_experiment
    (id, public_model_id, name, status, is_archived, created_at, started_at, ended_at)
SELECT pg_temp.id(1, n), 'partner/model-' || CASE WHEN n <= 950 THEN n % 250 ELSE n END, 'Experiment ' || n,
    status, status = 'completed' AND n % 2 = 0, created_at,
    CASE WHEN status <> 'draft' THEN created_at END, CASE WHEN status = 'completed' THEN created_at END
FROM generate_series(1, 1001) n,
    LATERAL (SELECT CASE
        WHEN n <= 250 OR n > 1000 THEN CASE n % 5 WHEN 0 THEN 'paused' ELSE 'active' END
        WHEN n <= 950 THEN 'completed' ELSE 'draft' END) s (status),
    LATERAL (SELECT timestamptz '2025-01-01Z' + n * interval '1 hour') c (created_at);

INSERT INTO model_experiment_variant (id, experiment_id, label, weight)
SELECT pg_temp.id(2, n), pg_temp.id(1, (n + 1) / 2), CASE n % 2 WHEN 1 THEN 'control' ELSE 'candidate' END, 1
FROM generate_series(1, 2002) n;

INSERT INTO model_experiment_variant_version (id, variant_id, upstream, encrypted_api_key, effective_at)
SELECT pg_temp.id(3, n), pg_temp.id(2, CASE WHEN n <= 100000 THEN (n + 49) / 50 ELSE 2001 + n % 2 END),
    '{\"internal_id\": \"rc\", \"base_url\": \"https://partner.example/v1\"}', '{}',
    timestamptz '2025-01-01Z' + n * interval '1 second'
FROM generate_series(1, 110000) n;

INSERT INTO microdollar_usage (id, kilo_user_id, cost, input_tokens, output_tokens, cache_write_tokens,
    cache_hit_tokens, created_at, requested_model)
SELECT pg_temp.id(4, n), 'user-' || n % 5000, n % 1000, n % 4000, n % 300, 0, 0,
    timestamptz '2025-01-01Z' + age, 'partner/model-' || experiment % 250
FROM (
    SELECT n, n * interval '21.6 s', (n * 7919 % 25000 + 100) / 100 FROM generate_series(1, 200000) n
    UNION ALL
    SELECT n, (n - 200000) * interval '216 s', n % 25 FROM generate_series(200001, 220000) n
) served (n, age, experiment)
ORDER BY age;

INSERT INTO model_experiment_request (usage_id, variant_version_id, allocation_subject, client_request_id,
    system_prompt_sha256, request_body_sha256, created_at)
SELECT pg_temp.id(4, n), pg_temp.id(3, n * 7919 % 25000 + 1), 'user',
    CASE WHEN n % 2 = 0 THEN 'client-' || n / 3 END, '__absent__', '__failed__',
    timestamptz '2025-01-01Z' + n * interval '21.6 s'
FROM generate_series(1, 200000) n";

/// The database, as the planner and its indexes know it after a while.
pub(super) async fn database() -> TestDatabase {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    unguard(conn).await;
    raw(conn, ROWS).await.unwrap();
    guard(conn).await;
    raw(conn, "VACUUM (ANALYZE)").await.unwrap();
    db
}

fn id(kind: u128, n: u128) -> Uuid {
    Uuid::from_u128(kind << 96 | 0x7000_8000 << 48 | n)
}

/// Routed up to 250, completed up to 950, a draft up to 1,000.
pub(crate) fn experiment(n: u128) -> ExperimentId {
    id(1, n).into()
}

/// A variant of the experiment of half its number, rounded up.
pub(crate) fn variant(n: u128) -> VariantId {
    id(2, n).into()
}

pub(crate) fn version(n: u128) -> VersionId {
    id(3, n).into()
}

pub(crate) fn usage(n: u128) -> UsageId {
    id(4, n).into()
}

/// The public model id of the routed experiment of that number.
pub(crate) fn model(n: u128) -> PublicModelId {
    PublicModelId::new(format!("partner/model-{n}")).unwrap()
}

fn instant(text: &str) -> Timestamp {
    Timestamp::try_from(text.parse::<chrono::DateTime<chrono::Utc>>().unwrap()).unwrap()
}

/// After all that was inserted.
pub(crate) fn later() -> Timestamp {
    instant("2025-06-01T00:00:00Z")
}

/// When a version may still be published for.
pub(crate) fn next_year() -> Timestamp {
    Timestamp::now() + Duration::days(365)
}

pub(crate) fn upstream() -> Upstream {
    fixtures::upstream("rc2")
}

pub(crate) fn key() -> EncryptedApiKey {
    fixtures::key("sk-2")
}

/// A tenth of the time in which requests were served.
pub(crate) fn window() -> Range<Timestamp> {
    let start = instant("2025-01-11T00:00:00Z");
    start..start + Duration::days(5)
}
