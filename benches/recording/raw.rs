//! The same rows, written by hand: tokio-postgres, and statements that are prepared once.

use deadpool::managed::{Manager, Metrics, RecycleResult};
use futures_util::future::try_join_all;
use std::convert::Infallible;
use std::pin::pin;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{NoTls, Statement};

use crate::row::Row;

const USAGE: &str = "
INSERT INTO microdollar_usage (id, kilo_user_id, cost, input_tokens, output_tokens, cache_write_tokens,
    cache_hit_tokens, created_at, provider, model, requested_model, cache_discount, has_error,
    abuse_classification, organization_id, inference_provider, project_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";

const REQUEST: &str = "
INSERT INTO model_experiment_request (usage_id, created_at, variant_version_id, allocation_subject,
    client_request_id, system_prompt_sha256, request_body_sha256, was_truncated)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

const COPY_USAGES: &str = "
COPY microdollar_usage (id, kilo_user_id, cost, input_tokens, output_tokens, cache_write_tokens,
    cache_hit_tokens, created_at, provider, model, requested_model, cache_discount, has_error,
    abuse_classification, organization_id, inference_provider, project_id)
FROM STDIN (FORMAT binary)";

const COPY_REQUESTS: &str = "
COPY model_experiment_request (usage_id, created_at, variant_version_id, allocation_subject,
    client_request_id, system_prompt_sha256, request_body_sha256, was_truncated)
FROM STDIN (FORMAT binary)";

/// The crate's own statements.
const PAIR: &str =
    include_str!("../../tests/queries/operations.record.statement.usage_with_request.sql");
const PAIRS: &str =
    include_str!("../../tests/queries/operations.record.batch.usages_with_requests.sql");

/// The types of a usage's columns, and of arrays of them.
const USAGE_TYPES: [(Type, Type); 17] = [
    (Type::UUID, Type::UUID_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::INT8, Type::INT8_ARRAY),
    (Type::INT8, Type::INT8_ARRAY),
    (Type::INT8, Type::INT8_ARRAY),
    (Type::INT8, Type::INT8_ARRAY),
    (Type::INT8, Type::INT8_ARRAY),
    (Type::TIMESTAMPTZ, Type::TIMESTAMPTZ_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::INT8, Type::INT8_ARRAY),
    (Type::BOOL, Type::BOOL_ARRAY),
    (Type::INT2, Type::INT2_ARRAY),
    (Type::UUID, Type::UUID_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
];

/// The types of a request's own columns, which are all but its usage's id and instant.
const REQUEST_TYPES: [(Type, Type); 6] = [
    (Type::UUID, Type::UUID_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::BOOL, Type::BOOL_ARRAY),
];

/// A value to send.
type Value<'r> = &'r (dyn ToSql + Sync);

/// Connections that callers take in turn.
pub type Pool = deadpool::managed::Pool<Connections>;

/// A pool of `size` open connections.
pub async fn pool(url: &str, size: usize) -> Pool {
    let pool = Pool::builder(Connections(url.to_owned())).max_size(size).build().unwrap();
    try_join_all((0..size).map(|_| pool.get())).await.unwrap();
    pool
}

pub struct Connections(String);

impl Manager for Connections {
    type Type = Client;
    type Error = Infallible;

    async fn create(&self) -> Result<Client, Infallible> {
        Ok(Client::connect(&self.0).await)
    }

    async fn recycle(&self, _: &mut Client, _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

/// A connection with its statements.
pub struct Client {
    client: tokio_postgres::Client,
    usage: Statement,
    request: Statement,
    pair: Statement,
    pairs: Statement,
    copy_usages: Statement,
    copy_requests: Statement,
}

impl Client {
    async fn connect(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let (usage, usages): (Vec<_>, Vec<_>) = USAGE_TYPES.into_iter().unzip();
        let (request, requests): (Vec<_>, Vec<_>) = REQUEST_TYPES.into_iter().unzip();
        let pair = [usage, request].concat();
        let pairs = [usages, vec![Type::UUID_ARRAY], requests].concat();
        Self {
            usage: client.prepare(USAGE).await.unwrap(),
            request: client.prepare(REQUEST).await.unwrap(),
            pair: client.prepare_typed(PAIR, &pair).await.unwrap(),
            pairs: client.prepare_typed(PAIRS, &pairs).await.unwrap(),
            copy_usages: client.prepare(COPY_USAGES).await.unwrap(),
            copy_requests: client.prepare(COPY_REQUESTS).await.unwrap(),
            client,
        }
    }

    /// A transaction of two insertions: four round trips.
    pub async fn transaction(&self, row: &Row) {
        self.client.batch_execute("BEGIN").await.unwrap();
        self.client.execute(&self.usage, &usage(row)).await.unwrap();
        self.client.execute(&self.request, &usage_key_and(request(row), row)).await.unwrap();
        self.client.batch_execute("COMMIT").await.unwrap();
    }

    /// The crate's statement of one pair.
    pub async fn pair(&self, row: &Row) {
        let values: Vec<_> = usage(row).into_iter().chain(request(row)).collect();
        assert!(self.client.query_opt(&self.pair, &values).await.unwrap().is_some());
    }

    /// The crate's statement of many pairs.
    pub async fn pairs(&self, rows: &[Row]) {
        let ids = &column(rows, |row| *row.usage().id.as_uuid());
        let values: [Value<'_>; 24] = [
            ids,
            &column(rows, |row| row.usage().kilo_user_id.as_str()),
            &column(rows, |row| row.usage().cost),
            &column(rows, |row| row.usage().input_tokens),
            &column(rows, |row| row.usage().output_tokens),
            &column(rows, |row| row.usage().cache_write_tokens),
            &column(rows, |row| row.usage().cache_hit_tokens),
            &column(rows, |row| row.created_at),
            &column(rows, |row| row.usage().provider.as_deref()),
            &column(rows, |row| row.usage().model.as_deref()),
            &column(rows, |row| row.usage().requested_model.as_deref()),
            &column(rows, |row| row.usage().cache_discount),
            &column(rows, |row| row.usage().has_error),
            &column(rows, |row| row.usage().abuse_classification),
            &column(rows, |row| row.usage().organization_id),
            &column(rows, |row| row.usage().inference_provider.as_deref()),
            &column(rows, |row| row.usage().project_id.as_deref()),
            ids,
            &column(rows, |row| row.version),
            &column(rows, |row| row.subject),
            &column(rows, |row| row.client_request_id.as_str()),
            &column(rows, |row| row.system_prompt.as_str()),
            &column(rows, |row| row.request_body.as_str()),
            &column(rows, |_| false),
        ];
        let inserted = self.client.query(&self.pairs, &values).await.unwrap();
        assert_eq!(inserted.len(), rows.len());
    }

    /// A transaction of two COPYs.
    pub async fn copy(&self, rows: &[Row]) {
        self.client.batch_execute("BEGIN").await.unwrap();
        let values = rows.iter().map(usage);
        self.copy_into(&self.copy_usages, self.usage.params(), values).await;
        let values = rows.iter().map(|row| usage_key_and(request(row), row));
        self.copy_into(&self.copy_requests, self.request.params(), values).await;
        self.client.batch_execute("COMMIT").await.unwrap();
    }

    async fn copy_into<'r, const N: usize>(
        &self,
        copy: &Statement,
        types: &[Type],
        rows: impl Iterator<Item = [Value<'r>; N]>,
    ) {
        let sink = self.client.copy_in(copy).await.unwrap();
        let mut writer = pin!(BinaryCopyInWriter::new(sink, types));
        for row in rows {
            writer.as_mut().write(&row).await.unwrap();
        }
        writer.finish().await.unwrap();
    }
}

/// An array of what a column takes of each row.
fn column<'r, T>(rows: &'r [Row], of: impl Fn(&'r Row) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

/// The values of a usage's columns.
fn usage(row: &Row) -> [Value<'_>; 17] {
    let usage = row.usage();
    [
        usage.id.as_uuid(),
        &usage.kilo_user_id,
        &usage.cost,
        &usage.input_tokens,
        &usage.output_tokens,
        &usage.cache_write_tokens,
        &usage.cache_hit_tokens,
        &row.created_at,
        &usage.provider,
        &usage.model,
        &usage.requested_model,
        &usage.cache_discount,
        &usage.has_error,
        &usage.abuse_classification,
        &usage.organization_id,
        &usage.inference_provider,
        &usage.project_id,
    ]
}

/// The values of a request's own columns.
fn request(row: &Row) -> [Value<'_>; 6] {
    [
        &row.version,
        &row.subject,
        &row.client_request_id,
        &row.system_prompt,
        &row.request_body,
        &false,
    ]
}

/// Those, after the ones that are its usage's.
fn usage_key_and<'r>([a, b, c, d, e, f]: [Value<'r>; 6], row: &'r Row) -> [Value<'r>; 8] {
    [row.usage().id.as_uuid(), &row.created_at, a, b, c, d, e, f]
}
