//! Routing: which version serves a request for a public model id.
//!
//! The only place where an encrypted key is loaded. What is loaded here answers for an instant; a service that routes
//! every request asks a [`RoutingCache`](crate::RoutingCache), which keeps it up to date.

mod experiment;
mod outline;
mod route;
mod rows;

pub use self::experiment::RoutedExperiment;
pub(crate) use self::outline::Outline;
pub use self::route::{Route, Served, Unavailable};

use chrono::{DateTime, Utc};
use diesel::dsl::{AsExprOf, AsSelect, auto_type};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_source::AliasedField;
use diesel::sql_types::Jsonb;
use diesel_async::AsyncPgConnection;
use std::collections::HashMap;

use self::rows::{
    HeadRow, Identity, Row, Slot, SqlIdentity, SqlVersion, VariantRow, VersionRow, grouped,
};
use crate::error::Result;
use crate::schema::{model_experiment, model_experiment_variant, model_experiment_variant_version};
use crate::tables::experiments::is_routed;
use crate::tables::versions::{NEWEST, Newest, NextEffectiveAt, effective_now, next_effective_at};
use crate::tables::{First, Returns, no_earlier_than};
use crate::values::PublicModelId;

/// What was loaded by the public model ids, and what time it was by the database's clock; `None` when nothing is
/// routed.
pub(crate) struct Loaded<T> {
    pub(crate) experiments: Vec<(String, T)>,
    pub(crate) now: Option<DateTime<Utc>>,
}

diesel::define_sql_function! {
    /// A number that differs when the value does, but for one time in four billions.
    fn jsonb_hash(value: Jsonb) -> Integer;
}

type Key = AliasedField<Newest, model_experiment_variant_version::encrypted_api_key>;

type IdentityOfNewest = AsExprOf<
    (AliasedField<Newest, model_experiment_variant_version::id>, jsonb_hash<Key>),
    SqlIdentity,
>;

type VersionOfNewest = AsExprOf<
    (IdentityOfNewest, AliasedField<Newest, model_experiment_variant_version::upstream>, Key),
    SqlVersion,
>;

fn identity() -> IdentityOfNewest {
    let key = NEWEST.field(model_experiment_variant_version::encrypted_api_key);
    let id = NEWEST.field(model_experiment_variant_version::id);
    (id, jsonb_hash(key)).into_sql::<SqlIdentity>()
}

/// The current version as one value: joined, it would be looked up once more by its id.
#[auto_type]
fn current(seen: DateTime<Utc>) -> _ {
    let upstream = NEWEST.field(model_experiment_variant_version::upstream);
    let key = NEWEST.field(model_experiment_variant_version::encrypted_api_key);
    let version: VersionOfNewest = (identity(), upstream, key).into_sql::<SqlVersion>();
    let effective: effective_now = effective_now(seen);
    effective.select(version)
}

/// Which version is current.
#[auto_type]
fn current_identity(seen: DateTime<Utc>) -> _ {
    let identity: IdentityOfNewest = identity();
    let effective: effective_now = effective_now(seen);
    effective.select(identity)
}

#[auto_type]
fn routed(seen: DateTime<Utc>) -> _ {
    let head: AsSelect<HeadRow, Pg> = HeadRow::as_select();
    let variant: AsSelect<Option<VariantRow>, Pg> = Option::<VariantRow>::as_select();
    let current: First<current> = First(current(seen));
    let next: NextEffectiveAt = next_effective_at(seen);
    let now: no_earlier_than = no_earlier_than(seen);
    model_experiment::table
        .left_join(model_experiment_variant::table)
        .filter(is_routed())
        .select((head, variant, current, next, now))
}

fn all(seen: DateTime<Utc>) -> impl Returns<Row<VersionRow>> {
    routed(seen)
}

/// What a single decision needs: only a cache asks what comes next, and when.
fn one(
    public_model_id: &PublicModelId,
) -> impl Returns<(HeadRow, Option<VariantRow>, Option<VersionRow>)> {
    model_experiment::table
        .left_join(model_experiment_variant::table)
        .filter(is_routed())
        .filter(model_experiment::public_model_id.eq(public_model_id))
        .select((
            HeadRow::as_select(),
            Option::<VariantRow>::as_select(),
            First(current(DateTime::UNIX_EPOCH)),
        ))
}

fn some(public_model_ids: &[String], seen: DateTime<Utc>) -> impl Returns<Row<VersionRow>> {
    routed(seen).filter(model_experiment::public_model_id.eq_any(public_model_ids))
}

fn outlines(seen: DateTime<Utc>) -> impl Returns<Row<Identity>> {
    model_experiment::table.left_join(model_experiment_variant::table).filter(is_routed()).select((
        HeadRow::as_select(),
        Option::<VariantRow>::as_select(),
        First(current_identity(seen)),
        next_effective_at(seen),
        no_earlier_than(seen),
    ))
}

/// The experiment that is active or paused on `public_model_id`, with what its variants serve now by the
/// database's clock: one query, whose cost doesn't grow with the number of old versions.
///
/// ```no_run
/// # use diesel_async::AsyncPgConnection;
/// use model_experiments::bucketing::Subject;
/// use model_experiments::operations::routing::{self, Route};
/// # use model_experiments::values::PublicModelId;
/// # async fn serve(conn: &mut AsyncPgConnection, model: PublicModelId, user_id: &str)
/// # -> model_experiments::Result<()> {
///
/// let routed = routing::load(conn, &model).await?;
/// let subject = Subject::first_of(Some(user_id), None, None);
/// match routed.as_ref().map_or(Route::NotExperimented, |routed| routed.route(subject)) {
///     Route::Serve(served) => println!("serve by {}", served.upstream().internal_id()),
///     Route::NotExperimented => println!("serve as always"),
///     Route::Paused => println!("404"),
///     Route::Unavailable(reason) => println!("503: {reason}"),
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Only what the database says.
pub async fn load(
    conn: &mut AsyncPgConnection,
    public_model_id: &PublicModelId,
) -> Result<Option<RoutedExperiment>> {
    let rows = one(public_model_id).load(conn).await?.into_iter();
    let rows =
        rows.map(|(head, variant, current)| (head, variant, current, None, DateTime::UNIX_EPOCH));
    let loaded = experiments(rows.collect());
    Ok(loaded.experiments.into_iter().next().map(|(_, experiment)| experiment))
}

/// Every experiment that is active or paused, with what its variants serve now by the database's clock, under its
/// public model id: one query, whose cost doesn't grow with the number of old versions.
///
/// # Errors
///
/// Only what the database says. An experiment that can't be served is among them, and its
/// [`route`](RoutedExperiment::route) says why.
pub async fn load_all(conn: &mut AsyncPgConnection) -> Result<HashMap<String, RoutedExperiment>> {
    Ok(load_all_since(conn, DateTime::UNIX_EPOCH).await?.experiments.into_iter().collect())
}

/// Every routed experiment, by a clock that was `seen` to say an instant.
pub(crate) async fn load_all_since(
    conn: &mut AsyncPgConnection,
    seen: DateTime<Utc>,
) -> Result<Loaded<RoutedExperiment>> {
    Ok(experiments(all(seen).load(conn).await?))
}

/// The experiments that are routed on `public_model_ids`, by a clock that was `seen` to say an instant.
pub(crate) async fn load_some(
    conn: &mut AsyncPgConnection,
    public_model_ids: &[String],
    seen: DateTime<Utc>,
) -> Result<Loaded<RoutedExperiment>> {
    Ok(experiments(some(public_model_ids, seen).load(conn).await?))
}

/// The outlines of every routed experiment, by a clock that was `seen` to say an instant.
pub(crate) async fn load_outlines(
    conn: &mut AsyncPgConnection,
    seen: DateTime<Utc>,
) -> Result<Loaded<Outline>> {
    let rows = outlines(seen).load(conn).await?;
    Ok(Loaded::new(rows, |head, slots| Outline::new(head, &slots, |identity| *identity)))
}

fn experiments(rows: Vec<Row<VersionRow>>) -> Loaded<RoutedExperiment> {
    Loaded::new(rows, RoutedExperiment::new)
}

impl<T> Loaded<T> {
    fn new<V>(rows: Vec<Row<V>>, make: impl Fn(&HeadRow, Vec<Slot<V>>) -> T) -> Self {
        let now = rows.first().map(|(.., now)| *now);
        let experiments =
            grouped(rows).map(|(head, slots)| (make(&head, slots), head.public_model_id));
        Self { experiments: experiments.map(|(made, id)| (id, made)).collect(), now }
    }
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};

    const BY_INSTANT: &str = "IDX_model_experiment_variant_version_variant_effective";
    const CURRENT: &str = "(variant_id = model_experiment_variant.id) \
        AND (effective_at <= GREATEST(statement_timestamp(), ?))";
    const SAME: &str = "(variant_id = model_experiment_variant.id) AND (effective_at = ?)";
    const NEXT: &str = "(variant_id = model_experiment_variant.id) \
        AND (effective_at > GREATEST(statement_timestamp(), ?))";
    let never = DateTime::UNIX_EPOCH;

    vec![
        query!(all(never))
            .by("IDX_model_experiment_status", "status = ?")
            .scanning("model_experiment_variant")
            .by(BY_INSTANT, CURRENT)
            .by(BY_INSTANT, SAME)
            .by(BY_INSTANT, NEXT)
            .rows(502, 4010),
        query!(outlines(never))
            .by("IDX_model_experiment_status", "status = ?")
            .scanning("model_experiment_variant")
            .by(BY_INSTANT, CURRENT)
            .by(BY_INSTANT, SAME)
            .by(BY_INSTANT, NEXT)
            .rows(502, 4010),
        query!(one(&seed::model(4)))
            .by("UQ_model_experiment_public_model_id_routing", "public_model_id = ?")
            .by("IDX_model_experiment_variant_experiment_id", "experiment_id = model_experiment.id")
            .by(BY_INSTANT, CURRENT)
            .by(BY_INSTANT, SAME)
            .rows(2, 10),
        query!(one(&seed::model(1001)), "with a long history"),
        query!(some(&[seed::model(4).as_str().to_owned()], never))
            .by("UQ_model_experiment_public_model_id_routing", "public_model_id = ANY (?)")
            .by("IDX_model_experiment_variant_experiment_id", "experiment_id = model_experiment.id")
            .by(BY_INSTANT, CURRENT)
            .by(BY_INSTANT, SAME)
            .by(BY_INSTANT, NEXT)
            .rows(2, 10),
        query!(some(&[seed::model(1001).as_str().to_owned()], never), "with a long history"),
    ]
}
