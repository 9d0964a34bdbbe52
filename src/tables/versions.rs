//! Versions: the immutable upstream configurations of a variant, of which one is current at an instant.
//!
//! The encrypted key is written here and read by routing alone.

use chrono::{DateTime, Utc};
use diesel::dsl::{self, auto_type};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Jsonb, Nullable, Record, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;
use serde::Serialize;

use super::variants::Variant;
use super::{Cursor, First, Page, Returns, no_earlier_than};
use crate::error::Result;
use crate::schema::{model_experiment_variant, model_experiment_variant_version};
use crate::values::{EncryptedApiKey, ExperimentId, Upstream, VariantId, VersionId, stored};

/// The immutable upstream configuration that a variant serves from an instant on.
#[derive(Debug, Clone, PartialEq, Serialize, Queryable, Selectable)]
#[diesel(table_name = model_experiment_variant_version, check_for_backend(Pg))]
#[non_exhaustive]
pub struct Version {
    /// Identifies the version.
    pub id: VersionId,
    /// The variant that serves the version.
    pub variant_id: VariantId,
    /// Where and how the checkpoint is called.
    pub upstream: Upstream,
    /// From when on the version is served, until a later one is effective.
    pub effective_at: DateTime<Utc>,
    /// The host's user who published the version.
    pub created_by: Option<String>,
    /// When the version was published.
    pub created_at: DateTime<Utc>,
}

impl Version {
    /// Where the version stands in its variant's [`history`].
    pub fn cursor(&self) -> Cursor<VersionId> {
        Cursor { at: self.effective_at, id: self.id }
    }
}

// Versions beside the one that a query is about.
diesel::alias!(
    pub(crate) const NEWEST: Alias<Newest> = model_experiment_variant_version as newest;
    pub(crate) const EARLIER: Alias<Earlier> = model_experiment_variant_version as earlier;
);

/// The instants at which versions of the variant that a query is about take over, latest first.
///
/// Correlated on the variant's id, and in the order of the index to the last column: whatever the planner expects, the
/// first is found by one descent, however many older ones there are.
#[auto_type]
fn by_instant() -> _ {
    EARLIER
        .filter(
            EARLIER
                .field(model_experiment_variant_version::variant_id)
                .eq(model_experiment_variant::id),
        )
        .order(EARLIER.field(model_experiment_variant_version::effective_at).desc())
        .select(EARLIER.field(model_experiment_variant_version::effective_at))
}

#[auto_type]
fn instants_until(at: DateTime<Utc>) -> _ {
    by_instant().filter(EARLIER.field(model_experiment_variant_version::effective_at).le(at))
}

#[auto_type]
fn instants_until_now(seen: DateTime<Utc>) -> _ {
    let now: no_earlier_than = no_earlier_than(seen);
    by_instant().filter(EARLIER.field(model_experiment_variant_version::effective_at).le(now))
}

#[auto_type]
fn instants_later(seen: DateTime<Utc>) -> _ {
    let now: no_earlier_than = no_earlier_than(seen);
    by_instant()
        .filter(EARLIER.field(model_experiment_variant_version::effective_at).gt(now))
        .order(EARLIER.field(model_experiment_variant_version::effective_at).asc())
}

/// The versions of the variant that a query is about, the one of the highest id first: of several that take over at one
/// instant, it is the current one.
#[auto_type]
fn by_id_of_variant() -> _ {
    NEWEST
        .filter(
            NEWEST
                .field(model_experiment_variant_version::variant_id)
                .eq(model_experiment_variant::id),
        )
        .order(NEWEST.field(model_experiment_variant_version::id).desc())
        .select(NEWEST.field(model_experiment_variant_version::id))
}

#[auto_type]
fn effective_at(at: DateTime<Utc>) -> _ {
    let instant: First<instants_until> = First(instants_until(at));
    by_id_of_variant()
        .filter(NEWEST.field(model_experiment_variant_version::effective_at).nullable().eq(instant))
}

/// The version that is current by the database's clock, which was `seen` to say an instant, and then others of the same
/// instant.
#[auto_type]
pub(crate) fn effective_now(seen: DateTime<Utc>) -> _ {
    let instant: First<instants_until_now> = First(instants_until_now(seen));
    by_id_of_variant()
        .filter(NEWEST.field(model_experiment_variant_version::effective_at).nullable().eq(instant))
}

/// The id of the version that is current at `at`, in a query over variants.
pub(crate) fn current_id_at(at: DateTime<Utc>) -> First<effective_at> {
    First(effective_at(at))
}

/// When the next scheduled version takes over, in a query over variants.
pub(crate) fn next_effective_at(seen: DateTime<Utc>) -> NextEffectiveAt {
    First(instants_later(seen))
}

pub(crate) type NextEffectiveAt = First<instants_later>;

#[auto_type]
fn instants_of(variant: VariantId, at: DateTime<Utc>) -> _ {
    EARLIER
        .filter(EARLIER.field(model_experiment_variant_version::variant_id).eq(variant))
        .filter(EARLIER.field(model_experiment_variant_version::effective_at).le(at))
        .order(EARLIER.field(model_experiment_variant_version::effective_at).desc())
        .select(EARLIER.field(model_experiment_variant_version::effective_at))
}

/// The version of `variant` that is current at `at`, and then others of the same instant.
#[auto_type]
fn effective(variant: VariantId, at: DateTime<Utc>) -> _ {
    let instant: First<instants_of> = First(instants_of(variant, at));
    model_experiment_variant_version::table
        .filter(model_experiment_variant_version::variant_id.eq(variant))
        .filter(model_experiment_variant_version::effective_at.nullable().eq(instant))
        .order(model_experiment_variant_version::id.desc())
}

fn by_id(id: VersionId) -> impl Returns<Version> {
    model_experiment_variant_version::table.find(id).select(Version::as_select())
}

fn any_effective_at(variant: VariantId, at: DateTime<Utc>) -> impl Returns<bool> {
    diesel::select(dsl::exists(
        model_experiment_variant_version::table
            .filter(model_experiment_variant_version::variant_id.eq(variant))
            .filter(model_experiment_variant_version::effective_at.eq(at)),
    ))
}

fn current(variant: VariantId, at: DateTime<Utc>) -> impl Returns<Version> {
    First(effective(variant, at).select(Version::as_select()))
}

fn current_of_all(
    experiment: ExperimentId,
    at: DateTime<Utc>,
) -> impl Returns<(Variant, Option<Version>)> {
    model_experiment_variant::table
        .left_join(
            model_experiment_variant_version::table
                .on(model_experiment_variant_version::id.nullable().eq(current_id_at(at))),
        )
        .filter(model_experiment_variant::experiment_id.eq(experiment))
        .order(model_experiment_variant::id)
        .select((Variant::as_select(), Option::<Version>::as_select()))
}

fn newest_first(variant: VariantId, page: Page<VersionId>) -> impl Returns<Version> {
    let mut query = model_experiment_variant_version::table
        .filter(model_experiment_variant_version::variant_id.eq(variant))
        .select(Version::as_select())
        .into_boxed();
    if let Some(Cursor { at, id }) = page.after {
        query = query.filter(
            (model_experiment_variant_version::effective_at, model_experiment_variant_version::id)
                .into_sql::<Record<(Timestamptz, SqlUuid)>>()
                .lt((at, id)),
        );
    }
    query
        .order((
            model_experiment_variant_version::effective_at.desc(),
            model_experiment_variant_version::id.desc(),
        ))
        .limit(page.limit.into())
}

fn insertion<'a>(
    variant: VariantId,
    upstream: &'a Upstream,
    key: &'a EncryptedApiKey,
    effective_at: DateTime<Utc>,
    created_by: Option<&'a str>,
) -> impl Returns<Version> {
    diesel::insert_into(model_experiment_variant_version::table)
        .values((
            model_experiment_variant_version::variant_id.eq(variant),
            model_experiment_variant_version::upstream.eq(upstream),
            model_experiment_variant_version::encrypted_api_key.eq(key),
            model_experiment_variant_version::effective_at.eq(effective_at),
            model_experiment_variant_version::created_by
                .eq(created_by.into_sql::<Nullable<Text>>()),
        ))
        .returning(Version::as_returning())
}

/// A copy of the version that is current at `effective_at`, with its key and another upstream.
fn copy_with_upstream<'a>(
    variant: VariantId,
    upstream: &'a Upstream,
    effective_at: DateTime<Utc>,
    created_by: Option<&'a str>,
) -> impl Returns<Version> {
    effective(variant, effective_at)
        .limit(1)
        .select((
            model_experiment_variant_version::variant_id,
            upstream.into_sql::<Jsonb>(),
            model_experiment_variant_version::encrypted_api_key,
            effective_at.into_sql::<Timestamptz>(),
            created_by.into_sql::<Nullable<Text>>(),
        ))
        .insert_into(model_experiment_variant_version::table)
        .into_columns(Copied::default())
        .returning(Version::as_returning())
}

/// A copy of the version that is current at `effective_at`, with its upstream and another key.
fn copy_with_key<'a>(
    variant: VariantId,
    key: &'a EncryptedApiKey,
    effective_at: DateTime<Utc>,
    created_by: Option<&'a str>,
) -> impl Returns<Version> {
    effective(variant, effective_at)
        .limit(1)
        .select((
            model_experiment_variant_version::variant_id,
            model_experiment_variant_version::upstream,
            key.into_sql::<Jsonb>(),
            effective_at.into_sql::<Timestamptz>(),
            created_by.into_sql::<Nullable<Text>>(),
        ))
        .insert_into(model_experiment_variant_version::table)
        .into_columns(Copied::default())
        .returning(Version::as_returning())
}

/// The columns that a copy writes, in the order of its selection.
type Copied = (
    model_experiment_variant_version::variant_id,
    model_experiment_variant_version::upstream,
    model_experiment_variant_version::encrypted_api_key,
    model_experiment_variant_version::effective_at,
    model_experiment_variant_version::created_by,
);

/// The version `id`, if there is one.
///
/// # Errors
///
/// Only what the database says.
pub async fn find(conn: &mut AsyncPgConnection, id: VersionId) -> Result<Option<Version>> {
    by_id(id).first(conn).await
}

/// The version of `variant` that is current at `at`, if one is effective by then.
///
/// # Errors
///
/// [`Error::Invalid`](crate::Error::Invalid) when PostgreSQL has no such instant.
pub async fn find_current(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    at: DateTime<Utc>,
) -> Result<Option<Version>> {
    current(variant, stored(at)?).first(conn).await
}

/// Every variant of `experiment` with the version that is current at `at`, in the order of the
/// variants' ids. The cost doesn't grow with the number of old versions.
///
/// # Errors
///
/// [`Error::Invalid`](crate::Error::Invalid) when PostgreSQL has no such instant.
pub async fn list_current(
    conn: &mut AsyncPgConnection,
    experiment: ExperimentId,
    at: DateTime<Utc>,
) -> Result<Vec<(Variant, Option<Version>)>> {
    current_of_all(experiment, stored(at)?).load(conn).await
}

/// The versions of `variant`, scheduled ones too, newest first.
///
/// # Errors
///
/// [`Error::Invalid`](crate::Error::Invalid) when PostgreSQL has no such instant as the page's cursor.
pub async fn history(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    page: Page<VersionId>,
) -> Result<Vec<Version>> {
    newest_first(variant, page.stored()?).load(conn).await
}

/// Whether a version of a locked experiment's variant becomes effective at the very instant `at`.
pub(crate) async fn is_taken(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    at: DateTime<Utc>,
) -> Result<bool> {
    any_effective_at(variant, at).one(conn).await
}

/// Inserts a version of a locked experiment's variant.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    upstream: &Upstream,
    key: &EncryptedApiKey,
    effective_at: DateTime<Utc>,
    created_by: Option<&str>,
) -> Result<Version> {
    insertion(variant, upstream, key, effective_at, created_by).one(conn).await
}

/// Inserts a version with the key of the one that it takes over from, if there is one.
pub(crate) async fn insert_keeping_key(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    upstream: &Upstream,
    effective_at: DateTime<Utc>,
    created_by: Option<&str>,
) -> Result<Option<Version>> {
    copy_with_upstream(variant, upstream, effective_at, created_by).first(conn).await
}

/// Inserts a version with the upstream of the one that it takes over from, if there is one.
pub(crate) async fn insert_keeping_upstream(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    key: &EncryptedApiKey,
    effective_at: DateTime<Utc>,
    created_by: Option<&str>,
) -> Result<Option<Version>> {
    copy_with_key(variant, key, effective_at, created_by).first(conn).await
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};
    let (variant, experienced) = (seed::variant(7), seed::variant(2001));
    let (at, next_year) = (seed::later(), seed::next_year());
    let (upstream, key) = (seed::upstream(), seed::key());
    let page = Page::first(10);
    let cursor = Cursor { at: seed::window().start, id: seed::version(320) };

    vec![
        query!(by_id(seed::version(7)))
            .by("model_experiment_variant_version_pkey", "id = ?")
            .rows(1, 1),
        query!(any_effective_at(variant, at))
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "(variant_id = ?) AND (effective_at = ?)",
            )
            .rows(1, 0),
        query!(current(variant, at))
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "(variant_id = ?) AND (effective_at <= ?)",
            )
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "(variant_id = ?) AND (effective_at = ?)",
            )
            .rows(1, 2),
        query!(current(experienced, at), "with a long history"),
        query!(current_of_all(seed::experiment(4), at))
            .by("IDX_model_experiment_variant_experiment_id", "experiment_id = ?")
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "(variant_id = model_experiment_variant.id) AND (effective_at <= ?)",
            )
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "(variant_id = model_experiment_variant.id) AND (effective_at = ?)",
            )
            .by("model_experiment_variant_version_pkey", "id = (SubPlan 2)")
            .rows(2, 11),
        query!(current_of_all(seed::experiment(1001), at), "with a long history"),
        query!(newest_first(variant, page))
            .by("IDX_model_experiment_variant_version_variant_effective", "variant_id = ?")
            .rows(10, 11),
        query!(newest_first(variant, Page::after(cursor, 10)), "after a cursor")
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "(variant_id = ?) AND (effective_at <= ?)",
            )
            .rows(10, 11),
        query!(insertion(variant, &upstream, &key, next_year, None)).rows(1, 0),
        query!(copy_with_upstream(variant, &upstream, next_year, None))
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "(variant_id = ?) AND (effective_at <= ?)",
            )
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "(variant_id = ?) AND (effective_at = ?)",
            )
            .rows(1, 2),
        query!(copy_with_key(variant, &key, next_year, Some("user-1")))
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "(variant_id = ?) AND (effective_at <= ?)",
            )
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "(variant_id = ?) AND (effective_at = ?)",
            )
            .rows(1, 2),
    ]
}
