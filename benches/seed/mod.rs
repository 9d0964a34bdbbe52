//! Databases that have grown, to measure on.

use diesel_async::AsyncPgConnection;
use model_experiments::routing::Subject;
use model_experiments::values::Upstream;
use serde_json::Value;

use crate::support::TestDatabase;
use crate::support::fixtures::{API_KEY, guard, key, raw, unguard};

/// How many variants each experiment has.
pub const VARIANTS: usize = 4;

/// Experiments that are alike.
pub struct Family {
    /// Their public model ids are this, a slash and a number from 1 on.
    pub name: &'static str,
    pub status: &'static str,
    pub experiments: usize,
    /// How many versions each variant has, of which the last is current.
    pub versions: usize,
}

/// A database with these experiments, as the planner and its indexes know it after a while.
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
SELECT id, 'arm-' || n, n FROM model_experiment, generate_series(1, {VARIANTS}) n
WHERE public_model_id LIKE '{name}/%';

INSERT INTO model_experiment_variant_version (variant_id, upstream, encrypted_api_key, effective_at)
SELECT v.id, upstream || jsonb_build_object('internal_id', 'checkpoint-' || label || '-' || n), '{key}',
    now() - n * interval '1 minute'
FROM model_experiment_variant v JOIN model_experiment e ON e.id = v.experiment_id,
    generate_series(1, {versions}) n, (SELECT $upstream${upstream}$upstream$::jsonb) u (upstream)
WHERE public_model_id LIKE '{name}/%'"
    );
    raw(conn, &rows).await.unwrap();
}

/// The subject of a gateway's user.
pub fn user(id: &str) -> Option<Subject<'_>> {
    Subject::user(id)
}

/// An upstream of some 2 KiB.
pub fn upstream() -> Upstream {
    Upstream::from_json(upstream_json()).unwrap()
}

fn upstream_json() -> Value {
    serde_json::from_str(include_str!("upstream.json")).unwrap()
}
