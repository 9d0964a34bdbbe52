//! The cases of `compile_fail` done right, with the same imports.

use chrono::{DateTime, Utc};
use diesel::deserialize::{self, FromSql};
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::sql_types::Jsonb;
use model_experiments::experiments::{
    self, Experiment, ExperimentChanges, ExperimentFilter, NewExperiment, NewVersion, Variant,
    Version,
};
use model_experiments::recording::{NewRequest, Record, Request, Usage, record};
use model_experiments::routing::{RoutedExperiment, Served};
use model_experiments::schema::{
    microdollar_usage as usage, model_experiment as experiment,
    model_experiment_request as request, model_experiment_variant_version as version,
};
use model_experiments::secrecy::SecretString;
use model_experiments::values::{
    ApiKeyCipher, EncryptedApiKey, ExperimentId, Label, PromptCapture, PublicModelId,
    RequestBodyRef, Status, SystemPromptRef, Timestamp, Upstream, UsageId, VariantId, VersionId,
    Weight,
};
use model_experiments::{AsyncPgConnection, Result};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::Serializer;

async fn ids(
    conn: &mut AsyncPgConnection,
    variant: &Variant,
    request: &Request,
    new: &NewRequest,
) -> Result<()> {
    experiments::activate(conn, variant.experiment_id).await?;
    experiments::find_version(conn, request.variant_version_id).await?;
    let _ = record::attribute(conn, request.usage_id, new).await?;
    Ok(())
}

async fn one_after_the_other(
    conn: &mut AsyncPgConnection,
    one: ExperimentId,
    other: ExperimentId,
) -> Result<(Option<Experiment>, Option<Experiment>)> {
    let first = experiments::find(conn, one).await?;
    let second = experiments::find(conn, other).await?;
    Ok((first, second))
}

async fn reopen(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    experiments::activate(conn, id).await
}

async fn grow(
    conn: &mut AsyncPgConnection,
    id: VariantId,
    weight: Weight,
) -> Result<Option<Variant>> {
    experiments::set_weight(conn, id, weight).await?;
    experiments::find_variant(conn, id).await
}

async fn double(conn: &mut AsyncPgConnection, variant: VariantId) -> Result<Variant> {
    experiments::set_weight(conn, variant, Weight::new(2)?).await
}

async fn publish(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    upstream: &Upstream,
    cipher: &ApiKeyCipher,
    key: &SecretString,
) -> Result<Version> {
    let key = cipher.encrypt(key)?;
    experiments::publish(conn, variant, NewVersion::with_key(upstream, &key)).await
}

fn update(row: &Experiment, changes: &ExperimentChanges) {
    let _ = diesel::update(experiment::table.find(row.id)).set(changes);
}

fn insert(new: &Usage) {
    let _ = diesel::insert_into(usage::table).values(new);
}

async fn insert_with_request(
    conn: &mut AsyncPgConnection,
    usage: Usage,
    new: NewRequest,
) -> Result<()> {
    let _ = request::table.find(usage.id);
    let _ = record::one(conn, &Record::new(usage, new)).await?;
    Ok(())
}

fn copy(usage: Usage) -> Usage {
    Usage { id: UsageId::new(), ..usage }
}

fn usage_at(created_at: DateTime<Utc>) -> Result<Usage> {
    Ok(Usage { created_at: Timestamp::try_from(created_at)?, ..Usage::new("user-7") })
}

fn behind(model: PublicModelId) -> NewExperiment {
    NewExperiment::new(model, "Foo: rc1")
}

fn active() -> ExperimentFilter {
    ExperimentFilter::default().status(Status::Active)
}

fn uncaptured(request: NewRequest) -> NewRequest {
    request.prompt_refs(SystemPromptRef::Absent, RequestBodyRef::Failed)
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = version, check_for_backend(Pg))]
struct Row {
    id: VersionId,
    upstream: Upstream,
}

struct Where(Upstream);

impl FromSql<Jsonb, Pg> for Where {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(Upstream::from_sql(value)?))
    }
}

fn log(
    label: &Label,
    version: &Version,
    prompt: &PromptCapture<'_>,
    served: &Served,
) -> serde_json::Result<Value> {
    println!("{label} {} {}", prompt.request_body_ref(), served.version);
    version.serialize(Serializer)
}

fn redacted(
    key: &SecretString,
    encrypted: &EncryptedApiKey,
    cipher: &ApiKeyCipher,
    served: &Served,
    routed: &RoutedExperiment,
) {
    println!("{key:?} {encrypted:?} {cipher:?} {served:?} {routed:?}");
}
