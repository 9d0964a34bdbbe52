//! The same records, written with tokio-postgres by statements that are prepared once.

use deadpool::managed::{Manager, Metrics, RecycleResult};
use futures_util::future::try_join_all;
use std::convert::Infallible;
use std::pin::pin;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{NoTls, Statement};

use crate::record::PreparedRecord;

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

/// The crate's own statements: a usage with its request, and many of them.
const PAIR: &str = include_str!(
    "../../tests/queries/recording.statements.one.insert_usage_with_request_query.sql"
);
const PAIRS: &str = include_str!(
    "../../tests/queries/recording.statements.many.insert_usages_with_requests_query.sql"
);

/// The types of a usage's columns, each with its array type.
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

/// The types of a request's columns, except for the usage's id and instant.
const REQUEST_TYPES: [(Type, Type); 6] = [
    (Type::UUID, Type::UUID_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::BOOL, Type::BOOL_ARRAY),
];

/// A parameter of a statement.
type Value<'r> = &'r (dyn ToSql + Sync);

/// A pool of raw connections.
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

/// A connection with its prepared statements.
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

    /// Inserts the usage and the request in a transaction: four round trips.
    pub async fn transaction(&self, record: &PreparedRecord) {
        self.client.batch_execute("BEGIN").await.unwrap();
        self.client.execute(&self.usage, &usage(record)).await.unwrap();
        self.client.execute(&self.request, &request(record)).await.unwrap();
        self.client.batch_execute("COMMIT").await.unwrap();
    }

    /// Runs the crate's statement for one record.
    pub async fn pair(&self, record: &PreparedRecord) {
        // The statement takes the usage's id and instant only once.
        let request = request(record).into_iter().skip(2);
        let values: Vec<_> = usage(record).into_iter().chain(request).collect();
        assert!(self.client.query_opt(&self.pair, &values).await.unwrap().is_some());
    }

    /// Runs the crate's statement for many records.
    pub async fn pairs(&self, records: &[PreparedRecord]) {
        let ids = &column(records, |record| *record.usage().id.as_uuid());
        let values: [Value<'_>; 24] = [
            ids,
            &column(records, |record| record.usage().kilo_user_id.as_str()),
            &column(records, |record| record.usage().cost),
            &column(records, |record| record.usage().input_tokens),
            &column(records, |record| record.usage().output_tokens),
            &column(records, |record| record.usage().cache_write_tokens),
            &column(records, |record| record.usage().cache_hit_tokens),
            &column(records, |record| record.created_at),
            &column(records, |record| record.usage().provider.as_deref()),
            &column(records, |record| record.usage().model.as_deref()),
            &column(records, |record| record.usage().requested_model.as_deref()),
            &column(records, |record| record.usage().cache_discount),
            &column(records, |record| record.usage().has_error),
            &column(records, |record| record.usage().abuse_classification),
            &column(records, |record| record.usage().organization_id),
            &column(records, |record| record.usage().inference_provider.as_deref()),
            &column(records, |record| record.usage().project_id.as_deref()),
            ids,
            &column(records, |record| record.version),
            &column(records, |record| record.subject),
            &column(records, |record| record.client_request_id.as_str()),
            &column(records, |record| record.system_prompt.as_str()),
            &column(records, |record| record.request_body.as_str()),
            &column(records, |_| false),
        ];
        let inserted = self.client.query(&self.pairs, &values).await.unwrap();
        assert_eq!(inserted.len(), records.len());
    }

    /// Writes all records in a transaction of two COPYs.
    pub async fn copy(&self, records: &[PreparedRecord]) {
        self.client.batch_execute("BEGIN").await.unwrap();
        let values = records.iter().map(usage);
        self.copy_into(&self.copy_usages, self.usage.params(), values).await;
        let values = records.iter().map(request);
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

/// The values of one column, as an array.
fn column<'r, T>(records: &'r [PreparedRecord], value: impl Fn(&'r PreparedRecord) -> T) -> Vec<T> {
    records.iter().map(value).collect()
}

/// The values of a usage's columns.
fn usage(record: &PreparedRecord) -> [Value<'_>; 17] {
    let usage = record.usage();
    [
        usage.id.as_uuid(),
        &usage.kilo_user_id,
        &usage.cost,
        &usage.input_tokens,
        &usage.output_tokens,
        &usage.cache_write_tokens,
        &usage.cache_hit_tokens,
        &record.created_at,
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

/// The values of a request's columns, of which the first two are the usage's id and instant.
fn request(record: &PreparedRecord) -> [Value<'_>; 8] {
    [
        record.usage().id.as_uuid(),
        &record.created_at,
        &record.version,
        &record.subject,
        &record.client_request_id,
        &record.system_prompt,
        &record.request_body,
        &false,
    ]
}
