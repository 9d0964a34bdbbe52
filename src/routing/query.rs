//! The queries of routing: what is routed, and what it serves now by the database's clock.
//!
//! The only place that loads an encrypted key. The cost of each query does not grow with the number
//! of old versions.

use diesel::dsl::{And, AsExprOf, AsSelect, Cast, LtEq, Or, auto_type, case_when};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_source::AliasedField;
use diesel::sql_types::{Jsonb, Text};
use diesel_async::AsyncPgConnection;
use std::collections::{HashMap, HashSet};
use std::mem::take;

use crate::error::Result;
use crate::routing::experiment::RoutedExperiment;
use crate::routing::fingerprint::Fingerprint;
use crate::routing::rows::{
    Experiment, ExperimentRow, KEY_LIMIT, Limit, PolledRow, Row, SqlIdentity, SqlVersion,
    UPSTREAM_LIMIT, VariantRow, VersionIdentity, VersionRow, grouped,
};
use crate::schema::{
    model_experiment as experiment, model_experiment_variant as variant,
    model_experiment_variant_version as version,
};
use crate::sql::functions::{
    greatest, jsonb_hash, octet_length, pg_column_size, statement_timestamp,
};
use crate::sql::limit_one::limit_one;
use crate::sql::literals::IntegerLiteral;
use crate::sql::run::Returns;
use crate::tables::experiments::is_routed;
use crate::tables::versions::current::{NEWEST, Newest, next_of_each, of_each};
use crate::values::{ExperimentId, PublicModelId, Status, Timestamp};

/// What was loaded, by public model id.
pub(crate) struct Loaded<T> {
    pub(crate) experiments: Vec<(String, T)>,
    /// The instant by the database's clock; `None` when nothing is routed.
    pub(crate) now: Option<Timestamp>,
}

type Key = AliasedField<Newest, version::encrypted_api_key>;

type Upstream = AliasedField<Newest, version::upstream>;

/// Whether JSON is stored in so many bytes.
type IsStoredWithin<J> = LtEq<pg_column_size<J>, IntegerLiteral>;

/// JSON, or null where it is too long to be loaded.
type Bounded<J> = case_when<
    Or<
        IsStoredWithin<J>,
        And<IsStoredWithin<J>, LtEq<octet_length<Cast<J, Text>>, IntegerLiteral>>,
    >,
    J,
>;

type KeyHash = case_when<IsStoredWithin<Key>, jsonb_hash<Key>>;

type Identity = AsExprOf<(AliasedField<Newest, version::id>, KeyHash), SqlIdentity>;

type Version = AsExprOf<(Identity, Bounded<Upstream>, Bounded<Key>), SqlVersion>;

/// The stored size is looked at first: it is known without reading the value.
fn bounded<J: Expression<SqlType = Jsonb> + Copy>(json: J, limit: Limit) -> Bounded<J> {
    let is_stored_within = |bytes: i32| pg_column_size(json).le(IntegerLiteral(bytes));
    let is_short = octet_length(json.cast::<Text>()).le(IntegerLiteral(limit.text));
    case_when(
        is_stored_within(limit.unmeasured).or(is_stored_within(limit.stored).and(is_short)),
        json,
    )
}

fn identity() -> Identity {
    let key = NEWEST.field(version::encrypted_api_key);
    let hash = case_when(pg_column_size(key).le(IntegerLiteral(KEY_LIMIT.stored)), jsonb_hash(key));
    (NEWEST.field(version::id), hash).into_sql::<SqlIdentity>()
}

fn bounded_version() -> Version {
    let upstream = bounded(NEWEST.field(version::upstream), UPSTREAM_LIMIT);
    let key = bounded(NEWEST.field(version::encrypted_api_key), KEY_LIMIT);
    (identity(), upstream, key).into_sql::<SqlVersion>()
}

/// The current version as one value. Joined, it would be looked up a second time, by its id.
#[auto_type]
fn current(seen: Option<Timestamp>) -> _ {
    let version: Version = bounded_version();
    let versions: of_each = of_each(seen);
    limit_one(versions.select(version))
}

/// Which version is current.
#[auto_type]
fn current_identity(seen: Option<Timestamp>) -> _ {
    let identity: Identity = identity();
    let versions: of_each = of_each(seen);
    limit_one(versions.select(identity))
}

/// Not filtered by status: a generic plan might read every completed experiment.
fn list_statuses_query(experiments: &[ExperimentId]) -> impl Returns<(ExperimentId, Status)> {
    experiment::table
        .filter(experiment::id.eq_any(experiments))
        .select((experiment::id, experiment::status))
}

fn find_query(public_model_id: &PublicModelId) -> impl Returns<Row<VersionRow>> {
    experiment::table
        .left_join(variant::table)
        .filter(is_routed())
        .filter(experiment::public_model_id.eq(public_model_id))
        .select((ExperimentRow::as_select(), Option::<VariantRow>::as_select(), current(None)))
}

/// What a cache asks of every routed experiment.
#[auto_type]
fn polled(seen: Option<Timestamp>) -> _ {
    let experiment: AsSelect<ExperimentRow, Pg> = ExperimentRow::as_select();
    let variant: AsSelect<Option<VariantRow>, Pg> = Option::<VariantRow>::as_select();
    let current: current = current(seen);
    let next: next_of_each = next_of_each(seen);
    experiment::table.left_join(variant::table).filter(is_routed()).select((
        experiment,
        variant,
        current,
        next,
        greatest(statement_timestamp(), seen),
    ))
}

fn list_query(seen: Option<Timestamp>) -> impl Returns<PolledRow<VersionRow>> {
    polled(seen)
}

fn list_some_query(
    public_model_ids: &[String],
    seen: Option<Timestamp>,
) -> impl Returns<PolledRow<VersionRow>> {
    polled(seen).filter(experiment::public_model_id.eq_any(public_model_ids))
}

fn list_fingerprints_query(seen: Option<Timestamp>) -> impl Returns<PolledRow<VersionIdentity>> {
    experiment::table.left_join(variant::table).filter(is_routed()).select((
        ExperimentRow::as_select(),
        Option::<VariantRow>::as_select(),
        current_identity(seen),
        next_of_each(seen),
        greatest(statement_timestamp(), seen),
    ))
}

/// The experiment that is active or paused on `public_model_id`, with what its variants serve now
/// by the database's clock.
///
/// A service that routes every request asks a [`RoutingCache`](crate::RoutingCache) instead.
///
/// ```no_run
/// # use model_experiments::{AsyncPgConnection, values::PublicModelId};
/// use model_experiments::routing::{self, Route, Subject};
///
/// # async fn serve(conn: &mut AsyncPgConnection, model: PublicModelId, user_id: &str)
/// # -> model_experiments::Result<()> {
/// let routed = routing::load(conn, &model).await?;
/// let subject = Subject::user(user_id);
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
/// [`Error::Transient`](crate::Error::Transient) or [`Error::Database`](crate::Error::Database).
#[tracing::instrument(skip_all, fields(%public_model_id))]
pub async fn load(
    conn: &mut AsyncPgConnection,
    public_model_id: &PublicModelId,
) -> Result<Option<RoutedExperiment>> {
    let rows = find_query(public_model_id).load(conn).await?;
    let mut experiments = grouped(rows.into_iter().map(|row| (row, None)));
    Ok(experiments.next().map(RoutedExperiment::new))
}

/// Every experiment that is active or paused, by public model id, with what its variants serve now
/// by the database's clock.
///
/// An experiment that can't be served is among them, and its [`route`](RoutedExperiment::route)
/// says why.
///
/// # Errors
///
/// [`Error::Transient`](crate::Error::Transient) or [`Error::Database`](crate::Error::Database).
#[tracing::instrument(skip_all)]
pub async fn load_all(conn: &mut AsyncPgConnection) -> Result<HashMap<String, RoutedExperiment>> {
    Ok(load_all_since(conn, None).await?.experiments.into_iter().collect())
}

/// Every routed experiment. Now is no earlier than `seen`.
pub(crate) async fn load_all_since(
    conn: &mut AsyncPgConnection,
    seen: Option<Timestamp>,
) -> Result<Loaded<RoutedExperiment>> {
    Ok(Loaded::new(list_query(seen).load(conn).await?, RoutedExperiment::new))
}

/// The experiments that are routed on `public_model_ids`. Now is no earlier than `seen`.
pub(crate) async fn load_some(
    conn: &mut AsyncPgConnection,
    public_model_ids: &[String],
    seen: Option<Timestamp>,
) -> Result<Loaded<RoutedExperiment>> {
    let rows = list_some_query(public_model_ids, seen).load(conn).await?;
    Ok(Loaded::new(rows, RoutedExperiment::new))
}

/// Those of `experiments` that are completed.
pub(crate) async fn list_completed(
    conn: &mut AsyncPgConnection,
    experiments: &[ExperimentId],
) -> Result<HashSet<ExperimentId>> {
    let found = list_statuses_query(experiments).load(conn).await?;
    let completed = found.into_iter().filter(|(_, status)| *status == Status::Completed);
    Ok(completed.map(|(id, _)| id).collect())
}

/// The fingerprints of every routed experiment. Now is no earlier than `seen`.
pub(crate) async fn load_fingerprints(
    conn: &mut AsyncPgConnection,
    seen: Option<Timestamp>,
) -> Result<Loaded<Fingerprint>> {
    let rows = list_fingerprints_query(seen).load(conn).await?;
    Ok(Loaded::new(rows, |experiment| Fingerprint::new(&experiment, |identity| *identity)))
}

impl<T> Loaded<T> {
    fn new<V>(rows: Vec<PolledRow<V>>, make: impl Fn(Experiment<V>) -> T) -> Self {
        let now = rows.first().map(|polled| polled.now);
        let experiments = grouped(rows.into_iter().map(PolledRow::split)).map(|mut experiment| {
            let public_model_id = take(&mut experiment.row.public_model_id);
            (public_model_id, make(experiment))
        });
        Self { experiments: experiments.collect(), now }
    }
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};

    const BY_INSTANT: &str = "IDX_model_experiment_variant_version_variant_effective";
    const CURRENT: &str = "variant_id = model_experiment_variant.id";
    const SAME: &str = "(variant_id = model_experiment_variant.id) AND (effective_at = ?)";
    const NEXT: &str = "(variant_id = model_experiment_variant.id) \
        AND (effective_at > GREATEST(statement_timestamp(), ?))";

    vec![
        query!(list_query(None))
            .by("IDX_model_experiment_status", "status = ?")
            .scanning("model_experiment_variant")
            .by(BY_INSTANT, CURRENT)
            .by(BY_INSTANT, SAME)
            .by(BY_INSTANT, NEXT)
            .rows(502, 4010),
        query!(list_fingerprints_query(None))
            .by("IDX_model_experiment_status", "status = ?")
            .scanning("model_experiment_variant")
            .by(BY_INSTANT, CURRENT)
            .by(BY_INSTANT, SAME)
            .by(BY_INSTANT, NEXT)
            .rows(502, 4010),
        query!(list_statuses_query(&[seed::experiment(4), seed::experiment(300)]))
            .by("model_experiment_pkey", "id = ANY (?)")
            .rows(2, 2),
        query!(find_query(&seed::model(4)))
            .by("UQ_model_experiment_public_model_id_routing", "public_model_id = ?")
            .by("IDX_model_experiment_variant_experiment_id", "experiment_id = model_experiment.id")
            .by(BY_INSTANT, CURRENT)
            .by(BY_INSTANT, SAME)
            .rows(2, 10),
        query!(find_query(&seed::model(1001)), "with a long history"),
        query!(list_some_query(&[seed::model(4).as_str().to_owned()], None))
            .by("UQ_model_experiment_public_model_id_routing", "public_model_id = ANY (?)")
            .by("IDX_model_experiment_variant_experiment_id", "experiment_id = model_experiment.id")
            .by(BY_INSTANT, CURRENT)
            .by(BY_INSTANT, SAME)
            .by(BY_INSTANT, NEXT)
            .rows(2, 10),
        query!(
            list_some_query(&[seed::model(1001).as_str().to_owned()], None),
            "with a long history"
        ),
    ]
}
