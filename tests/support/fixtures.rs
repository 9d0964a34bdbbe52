//! Rows that tests begin with, and raw SQL to see what the API does to the database.

use diesel::deserialize::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use model_experiments::error::Transient;
use model_experiments::experiments::{
    self, Experiment, NewExperiment, NewVersion, Variant, Version,
};
use model_experiments::recording::{NewRequest, Outcome, Record, Usage, record};
use model_experiments::routing::{CumulativeWeights, Served, Subject};
use model_experiments::schema::microdollar_usage as usage;
use model_experiments::values::{
    AllocationSubject, ApiKeyCipher, EncryptedApiKey, ExperimentId, Label, PublicModelId,
    Timestamp, Upstream, VariantId, VersionId, Weight,
};
use model_experiments::{Error, Result as ModelResult};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::fmt::Debug;
use std::future::poll_fn;
use std::net::TcpListener;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};
use url::Url;

/// The API key that [`key`] encrypts.
pub const API_KEY: &str = "sk-partner-1";

/// An experiment with two variants, `control` of weight 1 and `candidate` of weight 3, and a
/// version of each.
pub struct Ready {
    pub experiment: Experiment,
    pub control: Variant,
    pub candidate: Variant,
    pub control_version: Version,
    pub candidate_version: Version,
}

/// How many rows each table holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub experiments: i64,
    pub variants: i64,
    pub versions: i64,
    pub usages: i64,
    pub requests: i64,
}

/// How many usages and requests are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    pub usages: i64,
    pub requests: i64,
}

impl Recorded {
    pub const NONE: Self = Self::both(0);

    /// As many usages as requests.
    pub const fn both(records: i64) -> Self {
        Self { usages: records, requests: records }
    }
}

pub fn public_model_id(id: &str) -> PublicModelId {
    PublicModelId::new(id).unwrap()
}

pub fn label(label: &str) -> Label {
    Label::new(label).unwrap()
}

pub fn weight(weight: i32) -> Weight {
    Weight::new(weight).unwrap()
}

pub fn upstream(internal_id: &str) -> Upstream {
    Upstream::from_json(json!({
        "internal_id": internal_id,
        "base_url": "https://partner.example/v1",
        "extra_body": {"temperature": 0.5, "tags": ["a", {"b": null}]},
    }))
    .unwrap()
}

pub fn cipher() -> ApiKeyCipher {
    ApiKeyCipher::new(&SecretString::from("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")).unwrap()
}

pub fn key(api_key: &str) -> EncryptedApiKey {
    cipher().encrypt(&SecretString::from(api_key)).unwrap()
}

/// A draft without a variant.
pub async fn draft(conn: &mut AsyncPgConnection, model: &str) -> Experiment {
    let new = NewExperiment::new(public_model_id(model), "rc1 or rc2");
    experiments::create(conn, &new).await.unwrap()
}

/// Publishes a version with a key of its own, effective now.
pub async fn publish_now(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    internal_id: &str,
) -> Version {
    let (upstream, key) = (upstream(internal_id), key(API_KEY));
    experiments::publish(conn, variant, NewVersion::with_key(&upstream, &key)).await.unwrap()
}

/// A draft that lacks nothing.
pub async fn ready(conn: &mut AsyncPgConnection, model: &str) -> Ready {
    let experiment = draft(conn, model).await;
    let mut variants = Vec::new();
    for (name, share) in [("control", 1), ("candidate", 3)] {
        let (label, weight) = (label(name), weight(share));
        let variant = experiments::add_variant(conn, experiment.id, &label, weight).await.unwrap();
        let version = publish_now(conn, variant.id, name).await;
        variants.push((variant, version));
    }
    let (candidate, candidate_version) = variants.pop().unwrap();
    let (control, control_version) = variants.pop().unwrap();
    Ready { experiment, control, candidate, control_version, candidate_version }
}

/// An active experiment.
pub async fn active(conn: &mut AsyncPgConnection, model: &str) -> Ready {
    let mut ready = ready(conn, model).await;
    ready.experiment = experiments::activate(conn, ready.experiment.id).await.unwrap();
    ready
}

pub fn request(version: VersionId) -> NewRequest {
    NewRequest::new(version, AllocationSubject::User)
}

/// Records a usage with its request.
pub async fn record_one(
    conn: &mut AsyncPgConnection,
    usage: &Usage,
    request: &NewRequest,
) -> ModelResult<Outcome> {
    record::one(conn, &Record::new(usage.clone(), request.clone())).await
}

/// Records a new usage with its request.
pub async fn record_new(conn: &mut AsyncPgConnection, usage: &Usage, request: &NewRequest) {
    assert_eq!(record_one(conn, usage, request).await, Ok(Outcome::Recorded));
}

/// Inserts a usage as a host does that bills by itself. Returns whether the usage is new.
#[expect(clippy::disallowed_methods, reason = "the host writes without the API")]
pub async fn insert_usage(conn: &mut AsyncPgConnection, new: &Usage) -> bool {
    let insertion = diesel::insert_into(usage::table).values(new).on_conflict_do_nothing();
    insertion.execute(conn).await.unwrap() == 1
}

/// The variant that bucketing picks among those of `experiment`, in ascending order of their ids.
pub fn picked<'v>(
    experiment: ExperimentId,
    variants: &'v [Variant],
    subject: Subject<'_>,
) -> &'v Variant {
    let weights = CumulativeWeights::new(variants.iter().map(|variant| variant.weight));
    &variants[weights.pick(experiment, subject).unwrap()]
}

/// The API key that a served request is called with.
pub fn api_key(served: &Served) -> String {
    served.api_key(&cipher()).unwrap().expose_secret().to_owned()
}

/// Fails unless `outcome` is an [`Error::Database`] that says exactly `message`.
#[track_caller]
pub fn assert_database_error<T: Debug>(outcome: Result<T, Error>, message: &str) {
    match outcome {
        Err(Error::Database(cause)) => assert_eq!(cause.message(), message),
        outcome => panic!("{outcome:?}"),
    }
}

/// Fails unless `outcome` is an [`Error::Transient`] of `expected`.
#[track_caller]
pub fn assert_transient<T: Debug>(outcome: Result<T, Error>, expected: Transient) {
    match outcome {
        Err(Error::Transient { kind, .. }) => assert_eq!(kind, expected),
        outcome => panic!("{outcome:?}"),
    }
}

/// Runs statements without the API.
pub async fn raw(conn: &mut AsyncPgConnection, sql: &str) -> diesel::QueryResult<()> {
    conn.batch_execute(sql).await
}

/// A role of its own for a test, which may no more than it is granted. Roles belong to the server:
/// [`drop`](Self::drop) it.
pub struct Role(String);

impl Role {
    /// A role that is granted `grants`, in which `$role` is its name.
    pub async fn new(owner: &mut AsyncPgConnection, grants: &str) -> Self {
        let name = format!("model_experiments_test_{}", uuid::Uuid::now_v7().simple());
        let create = format!("CREATE ROLE {name}; {}", grants.replace("$role", &name));
        raw(owner, &create).await.unwrap();
        Self(name)
    }

    /// The role's name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Grants or revokes, where `$role` is the role's name.
    pub async fn sql(&self, owner: &mut AsyncPgConnection, sql: &str) {
        raw(owner, &sql.replace("$role", &self.0)).await.unwrap();
    }

    /// Lets the role log in, and returns the URL by which it connects to the database of `url`.
    pub async fn login(&self, owner: &mut AsyncPgConnection, url: &str) -> String {
        self.sql(owner, "ALTER ROLE $role LOGIN PASSWORD 'secret'").await;
        let mut url: Url = url.parse().unwrap();
        url.set_username(&self.0).unwrap();
        url.set_password(Some("secret")).unwrap();
        url.into()
    }

    /// Makes the session of `conn` the role's.
    pub async fn assume(&self, conn: &mut AsyncPgConnection) {
        raw(conn, &format!("SET ROLE {}", self.0)).await.unwrap();
    }

    /// Drops the role, with what it owns in the database of `owner`.
    pub async fn drop(self, owner: &mut AsyncPgConnection) {
        let Self(name) = self;
        let drop = format!("RESET ROLE; DROP OWNED BY {name} CASCADE; DROP ROLE {name}");
        raw(owner, &drop).await.unwrap();
    }
}

/// Disables the guards: for rows that another writer left before there were guards, and to see
/// that an operation refuses by itself what a guard would refuse.
pub async fn unguard(conn: &mut AsyncPgConnection) {
    switch_guards(conn, "DISABLE").await;
}

/// Enables the guards again.
pub async fn guard(conn: &mut AsyncPgConnection) {
    switch_guards(conn, "ENABLE").await;
}

/// Runs `sql` with no trigger firing, not even those of foreign keys: for rows that no writer makes
/// any more.
pub async fn raw_unguarded(conn: &mut AsyncPgConnection, sql: &str) {
    let sql =
        format!("SET session_replication_role = replica; {sql}; RESET session_replication_role");
    raw(conn, &sql).await.unwrap();
}

async fn switch_guards(conn: &mut AsyncPgConnection, switch: &str) {
    for table in ["", "_variant", "_variant_version", "_request"] {
        let sql = format!("ALTER TABLE model_experiment{table} {switch} TRIGGER USER");
        raw(conn, &sql).await.unwrap();
    }
}

/// The number that `sql` selects as `number`.
pub async fn number(conn: &mut AsyncPgConnection, sql: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        number: i64,
    }
    one::<Row>(conn, sql).await.number
}

/// The text that `sql` selects as `text`.
pub async fn text(conn: &mut AsyncPgConnection, sql: &str) -> String {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        text: String,
    }
    one::<Row>(conn, sql).await.text
}

/// An instant by the database, such as `clock_timestamp()`.
pub async fn instant(conn: &mut AsyncPgConnection, expression: &str) -> Timestamp {
    let json = text(conn, &format!("SELECT to_jsonb({expression})::text AS text")).await;
    serde_json::from_str(&json).unwrap()
}

/// A setting of the server.
pub async fn setting(conn: &mut AsyncPgConnection, name: &str) -> String {
    text(conn, &format!("SELECT current_setting('{name}') AS text")).await
}

/// The server process that serves the connection.
pub async fn pid(conn: &mut AsyncPgConnection) -> i64 {
    number(conn, "SELECT pg_backend_pid()::bigint AS number").await
}

/// Waits until `holds`, and fails after a minute.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(60), "never happened: {what}");
    }
}

/// Waits until the server process is gone.
pub async fn until_gone(watcher: &mut AsyncPgConnection, pid: i64) {
    let sql = format!("SELECT count(*) AS number FROM pg_stat_activity WHERE pid = {pid}");
    eventually("the backend is gone", async || number(watcher, &sql).await == 0).await;
}

/// Drops the future of `statement`, which sleeps, when the server process runs it.
pub async fn abandon(watcher: &mut AsyncPgConnection, pid: i64, statement: impl Future) {
    let sql = format!(
        "SELECT count(*) AS number FROM pg_stat_activity
         WHERE pid = {pid} AND wait_event = 'PgSleep'"
    );
    tokio::select! {
        _ = statement => panic!("it ended before it was abandoned"),
        () = eventually("it runs", async || number(watcher, &sql).await == 1) => {}
    }
}

/// Polls `future` at most `polls` times. Drops it then, which cancels it where it waits.
pub async fn cancelled_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Pending if left == 0 => Poll::Ready(None),
            polled => polled.map(Some),
        }
    })
    .await
}

/// Waits until a connection to the same database waits for a lock.
pub async fn until_blocked(watcher: &mut AsyncPgConnection) {
    until_many_blocked(watcher, 1).await;
}

/// Waits until `many` connections to the same database wait for locks.
pub async fn until_many_blocked(watcher: &mut AsyncPgConnection, many: i64) {
    let blocked = "SELECT count(*) AS number FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("they wait for locks", async || number(watcher, blocked).await >= many).await;
}

/// The URL with a further option, such as `sslmode=disable`.
pub fn option(url: &str, option: &str) -> String {
    format!("{url}{}{option}", if url.contains('?') { '&' } else { '?' })
}

/// A port of 127.0.0.1 on which no process listens.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[expect(clippy::disallowed_methods, reason = "a test reads the database without the API")]
async fn one<R: QueryableByName<diesel::pg::Pg> + Send + 'static>(
    conn: &mut AsyncPgConnection,
    sql: &str,
) -> R {
    diesel::sql_query(sql).get_result(conn).await.unwrap()
}

/// How many rows each table holds.
pub async fn counts(conn: &mut AsyncPgConnection) -> Counts {
    let Recorded { usages, requests } = recorded(conn).await;
    Counts {
        experiments: count(conn, "model_experiment").await,
        variants: count(conn, "model_experiment_variant").await,
        versions: count(conn, "model_experiment_variant_version").await,
        usages,
        requests,
    }
}

/// How many usages and requests are recorded.
pub async fn recorded(conn: &mut AsyncPgConnection) -> Recorded {
    Recorded {
        usages: count(conn, "microdollar_usage").await,
        requests: count(conn, "model_experiment_request").await,
    }
}

async fn count(conn: &mut AsyncPgConnection, table: &str) -> i64 {
    number(conn, &format!("SELECT count(*) AS number FROM {table}")).await
}
