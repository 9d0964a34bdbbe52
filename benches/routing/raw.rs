//! The same columns read with tokio-postgres: a query that is prepared once, and JSON that is only
//! parsed.

use futures_util::TryStreamExt;
use serde_json::{Map, Value};
use tokio_postgres::{NoTls, Row, RowStream, Statement};
use uuid::Uuid;

const COLUMNS: &str = "
SELECT e.id, e.status, v.id, v.weight, c.id, c.upstream, c.encrypted_api_key
FROM model_experiment e
JOIN model_experiment_variant v ON v.experiment_id = e.id
CROSS JOIN LATERAL (
    SELECT id, upstream, encrypted_api_key
    FROM model_experiment_variant_version
    WHERE variant_id = v.id AND effective_at <= statement_timestamp()
    ORDER BY effective_at DESC, id DESC
    LIMIT 1
) c
WHERE e.status IN ('active', 'paused')";

/// A connection with its prepared statements.
pub struct Client {
    client: tokio_postgres::Client,
    one: Statement,
    all: Statement,
}

/// A variant with its current version.
#[expect(dead_code, reason = "the benchmark reads rows and discards them")]
pub struct Variant {
    experiment: Uuid,
    status: String,
    id: Uuid,
    weight: i32,
    version: Uuid,
    upstream: Value,
    encrypted_api_key: Value,
}

impl Client {
    pub async fn connect(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let one = client.prepare(&format!("{COLUMNS} AND e.public_model_id = $1")).await.unwrap();
        let all = client.prepare(COLUMNS).await.unwrap();
        Self { client, one, all }
    }

    /// The variants of the experiment that is routed on `model`.
    pub async fn load_one(&self, model: &str) -> Vec<Variant> {
        read(self.client.query_raw(&self.one, [model]).await.unwrap()).await
    }

    /// The variants of all routed experiments.
    pub async fn load_all(&self) -> Vec<Variant> {
        read(self.client.query_raw(&self.all, [""; 0]).await.unwrap()).await
    }
}

/// Reads rows as the server sends them.
async fn read(rows: RowStream) -> Vec<Variant> {
    let variant = |row: Row| Variant {
        experiment: row.get(0),
        status: row.get(1),
        id: row.get(2),
        weight: row.get(3),
        version: row.get(4),
        upstream: row.get(5),
        encrypted_api_key: row.get(6),
    };
    rows.map_ok(variant).try_collect().await.unwrap()
}

/// Parses a JSON object.
pub fn parse(json: &str) -> Map<String, Value> {
    serde_json::from_str(json).unwrap()
}
