//! Seeded databases for measurements.

use model_experiments::AsyncPgConnection;
use model_experiments::values::Upstream;
use serde_json::Value;

use crate::support::TestDatabase;
use crate::support::fixtures::{API_KEY, guard, key, raw, unguard};

/// Number of variants of each experiment.
pub const VARIANTS: usize = 4;

/// A group of equal experiments.
pub struct Family {
    /// The public model ids are this name, a slash and a number from 1 on.
    pub name: &'static str,
    pub status: &'static str,
    pub experiments: usize,
    /// Number of versions of each variant, the last of which is current.
    pub versions: usize,
}

/// A database with these experiments, vacuumed and analysed.
pub async fn database(families: &[Family]) -> TestDatabase {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    raw(conn, "SET statement_timeout = 0").await.unwrap();
    unguard(conn).await;
    for family in families {
        insert(conn, family).await;
    }
    guard(conn).await;
    raw(conn, "VACUUM (ANALYZE)").await.unwrap();
    db
}

async fn insert(conn: &mut AsyncPgConnection, family: &Family) {
    let Family { name, status, experiments, versions } = family;
    let (upstream, key) = (upstream_json(), key(API_KEY).to_json());
    let rows = format!(
        "
INSERT INTO model_experiment (public_model_id, name, status, started_at)
SELECT '{name}/' || n, 'Experiment ' || n, '{status}', now() - interval '1 year'
FROM generate_series(1, {experiments}) n;

INSERT INTO model_experiment_variant (experiment_id, label, weight)
SELECT id, 'variant-' || n, n FROM model_experiment, generate_series(1, {VARIANTS}) n
WHERE public_model_id LIKE '{name}/%';

INSERT INTO model_experiment_variant_version (variant_id, upstream, encrypted_api_key, effective_at)
SELECT v.id, upstream || jsonb_build_object('internal_id', 'canary-' || label || '-' || n), '{key}',
    now() - n * interval '1 minute'
FROM model_experiment_variant v JOIN model_experiment e ON e.id = v.experiment_id,
    generate_series(1, {versions}) n, (SELECT $upstream${upstream}$upstream$::jsonb) u (upstream)
WHERE public_model_id LIKE '{name}/%'"
    );
    raw(conn, &rows).await.unwrap();
}

/// An upstream of about 2 KiB.
pub fn upstream() -> Upstream {
    Upstream::from_json(upstream_json()).unwrap()
}

fn upstream_json() -> Value {
    serde_json::from_str(include_str!("upstream.json")).unwrap()
}
