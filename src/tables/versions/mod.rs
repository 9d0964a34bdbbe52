//! Versions: the immutable upstream configurations of a variant, of which one is current at an
//! instant.
//!
//! The encrypted key is written here and read by routing alone.

pub(crate) mod current;

use derive_setters::Setters;
use diesel::dsl::{self, IntervalDsl};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Jsonb, Nullable, Text, Timestamptz};
use diesel_async::AsyncPgConnection;
use serde::Serialize;

use crate::error::{Result, UnreadableValue};
use crate::schema::{
    model_experiment_variant as variant, model_experiment_variant_version as version,
};
use crate::sql::functions::{greatest, statement_timestamp};
use crate::sql::limit_one::limit_one;
use crate::sql::page::{Cursor, Page};
use crate::sql::run::Returns;
use crate::tables::variants::Variant;
use crate::tables::{experiments, variants};
use crate::values::{
    EncryptedApiKey, ExperimentId, InvalidValue, Label, Readable, Timestamp, Upstream, VariantId,
    VersionId, storable,
};

/// The immutable upstream configuration that a variant serves from an instant on.
#[derive(Debug, Clone, PartialEq, Serialize, Queryable, Selectable)]
#[diesel(table_name = version, check_for_backend(Pg))]
#[non_exhaustive]
pub struct Version {
    /// Identifies the version.
    pub id: VersionId,
    /// The variant that serves the version.
    pub variant_id: VariantId,
    pub(crate) upstream: Readable<Upstream>,
    /// The instant from which the version is served, until a later one is effective.
    pub effective_at: Timestamp,
    /// The host's user who published the version.
    pub created_by: Option<String>,
    /// The instant at which the version was published.
    pub created_at: Timestamp,
}

impl Version {
    /// Where and how the checkpoint is called.
    ///
    /// # Errors
    ///
    /// [`UnreadableValue`] when another writer has stored what is no upstream.
    pub fn upstream(&self) -> Result<&Upstream, UnreadableValue> {
        self.upstream.0.as_ref().map_err(|invalid| UnreadableValue {
            table: "model_experiment_variant_version",
            column: "upstream".to_owned(),
            row: *self.id.as_uuid(),
            reason: invalid.to_string(),
        })
    }

    /// The version's position in [`list_versions`](crate::experiments::list_versions).
    pub fn cursor(&self) -> Cursor<VersionId> {
        Cursor { at: self.effective_at, id: self.id }
    }
}

/// A version to publish.
///
/// ```
/// use model_experiments::experiments::NewVersion;
/// # use model_experiments::values::{EncryptedApiKey, Timestamp, Upstream};
///
/// # fn versions(upstream: &Upstream, key: &EncryptedApiKey, tonight: Timestamp) {
/// let first = NewVersion::with_key(upstream, key);
/// let hot_swap = NewVersion::keeping_key(upstream).created_by("operator-1");
/// let scheduled = NewVersion::keeping_key(upstream).effective_at(tonight);
/// # }
/// ```
#[derive(Debug, Clone, Copy, Setters)]
#[setters(strip_option)]
#[must_use]
pub struct NewVersion<'a> {
    #[setters(skip)]
    pub(crate) content: Content<'a>,
    /// The instant at which the version becomes effective. The default is at once.
    pub(crate) effective_at: Option<Timestamp>,
    /// The host's user who publishes the version, at most 65,536 bytes.
    pub(crate) created_by: Option<&'a str>,
}

/// Where the content of a version comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content<'a> {
    /// All of it is new.
    New {
        /// The upstream.
        upstream: &'a Upstream,
        /// Its key.
        key: &'a EncryptedApiKey,
    },
    /// The key is the replaced version's.
    KeepKey(&'a Upstream),
    /// The upstream is the replaced version's.
    KeepUpstream(&'a EncryptedApiKey),
}

impl<'a> NewVersion<'a> {
    /// A version with a key of its own. A variant's first version must have one.
    pub fn with_key(upstream: &'a Upstream, key: &'a EncryptedApiKey) -> Self {
        Self::of(Content::New { upstream, key })
    }

    /// A version that keeps the key of the one that it replaces.
    pub fn keeping_key(upstream: &'a Upstream) -> Self {
        Self::of(Content::KeepKey(upstream))
    }

    /// A version that keeps the upstream of the one that it replaces.
    pub fn keeping_upstream(key: &'a EncryptedApiKey) -> Self {
        Self::of(Content::KeepUpstream(key))
    }

    fn of(content: Content<'a>) -> Self {
        Self { content, effective_at: None, created_by: None }
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        storable("created_by", self.created_by.unwrap_or_default())
    }
}

/// Where, when and by whom a version is published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publication<'a> {
    pub(crate) variant: VariantId,
    pub(crate) effective_at: Timestamp,
    pub(crate) created_by: Option<&'a str>,
    /// No earlier than `effective_at` where the version is effective when it is made.
    pub(crate) created_at: Timestamp,
}

fn find_query(id: VersionId) -> impl Returns<Version> {
    version::table.find(id).select(Version::as_select())
}

fn exists_at_query(of: VariantId, at: Timestamp) -> impl Returns<bool> {
    diesel::select(dsl::exists(
        version::table
            .filter(version::variant_id.eq(of))
            .filter(version::effective_at.eq(at))
            .select(version::id),
    ))
}

/// The first instant after that of the current version that isn't past by the clock.
fn next_instant_query(of: VariantId) -> impl Returns<Timestamp> {
    let latest = current::latest_instant(of);
    let after = latest.select(current::EARLIER.field(version::effective_at) + 1.microsecond());
    diesel::select(greatest(statement_timestamp(), limit_one(after)))
}

fn find_current_query(of: VariantId) -> impl Returns<Version> {
    limit_one(current::of_variant(of).select(Version::as_select()))
}

fn find_at_query(of: VariantId, at: Timestamp) -> impl Returns<Version> {
    limit_one(current::of_variant_at(of, at).select(Version::as_select()))
}

fn list_current_query(experiment: ExperimentId) -> impl Returns<(Variant, Option<Version>)> {
    variant::table
        .left_join(version::table.on(version::id.nullable().eq(current::id_of_each())))
        .filter(variant::experiment_id.eq(experiment))
        .order(variant::id)
        .select((Variant::as_select(), Option::<Version>::as_select()))
}

fn list_current_ids_query(
    experiment: ExperimentId,
) -> impl Returns<(VariantId, Label, Option<VersionId>)> {
    variant::table.filter(variant::experiment_id.eq(experiment)).order(variant::id).select((
        variant::id,
        variant::label,
        current::id_of_each(),
    ))
}

fn list_at_query(
    experiment: ExperimentId,
    at: Timestamp,
) -> impl Returns<(Variant, Option<Version>)> {
    variant::table
        .left_join(version::table.on(version::id.nullable().eq(current::id_of_each_at(at))))
        .filter(variant::experiment_id.eq(experiment))
        .order(variant::id)
        .select((Variant::as_select(), Option::<Version>::as_select()))
}

fn list_query(of: VariantId, page: Page<VersionId>) -> impl Returns<Version> {
    let mut query =
        version::table.filter(version::variant_id.eq(of)).select(Version::as_select()).into_boxed();
    if let Some(after) = page.newest_first(version::effective_at, version::id) {
        query = query.filter(after);
    }
    query.order((version::effective_at.desc(), version::id.desc())).limit(page.limit())
}

fn insert_query<'a>(
    new: &Publication<'a>,
    upstream: &'a Upstream,
    key: &'a EncryptedApiKey,
) -> impl Returns<Version> + use<'a> {
    diesel::insert_into(version::table)
        .values((
            version::variant_id.eq(new.variant),
            version::upstream.eq(upstream),
            version::encrypted_api_key.eq(key),
            version::effective_at.eq(new.effective_at),
            version::created_by.eq(new.created_by.into_sql::<Nullable<Text>>()),
            version::created_at.eq(new.created_at),
        ))
        .returning(Version::as_returning())
}

/// A copy of the version that it replaces, with another upstream.
fn insert_with_upstream_query<'a>(
    new: &Publication<'a>,
    upstream: &'a Upstream,
) -> impl Returns<Version> + use<'a> {
    current::of_variant_at(new.variant, new.effective_at)
        .limit(1)
        .select((
            version::variant_id,
            upstream.into_sql::<Jsonb>(),
            version::encrypted_api_key,
            new.effective_at.into_sql::<Timestamptz>(),
            new.created_by.into_sql::<Nullable<Text>>(),
            new.created_at.into_sql::<Timestamptz>(),
        ))
        .insert_into(version::table)
        .into_columns(Copied::default())
        .returning(Version::as_returning())
}

/// A copy of the version that it replaces, with another key.
fn insert_with_key_query<'a>(
    new: &Publication<'a>,
    key: &'a EncryptedApiKey,
) -> impl Returns<Version> + use<'a> {
    current::of_variant_at(new.variant, new.effective_at)
        .limit(1)
        .select((
            version::variant_id,
            version::upstream,
            key.into_sql::<Jsonb>(),
            new.effective_at.into_sql::<Timestamptz>(),
            new.created_by.into_sql::<Nullable<Text>>(),
            new.created_at.into_sql::<Timestamptz>(),
        ))
        .insert_into(version::table)
        .into_columns(Copied::default())
        .returning(Version::as_returning())
}

/// The columns that a copy writes, in the order of its selection.
type Copied = (
    version::variant_id,
    version::upstream,
    version::encrypted_api_key,
    version::effective_at,
    version::created_by,
    version::created_at,
);

/// The version `id`, if there is one.
///
/// # Errors
///
/// [`Error::Transient`](crate::Error::Transient) or [`Error::Database`](crate::Error::Database).
pub async fn find(conn: &mut AsyncPgConnection, id: VersionId) -> Result<Option<Version>> {
    find_query(id).first(conn).await
}

/// The version that `variant` serves now; `None` before its first is effective.
///
/// Now is by the database's clock. A version that was effective when it was published stays so,
/// also after that clock was set back.
///
/// # Errors
///
/// [`Error::VariantNotFound`](crate::Error::VariantNotFound).
pub async fn find_current(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
) -> Result<Option<Version>> {
    let current = find_current_query(variant).first(conn).await?;
    if current.is_none() {
        variants::require(conn, variant).await?;
    }
    Ok(current)
}

/// The version of `variant` that is effective at `at`; `None` before its first.
///
/// The answer for an instant in the past is settled one minute after it. The answer for one in the
/// future follows the versions that are scheduled.
///
/// # Errors
///
/// [`Error::VariantNotFound`](crate::Error::VariantNotFound).
pub async fn find_at(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    at: Timestamp,
) -> Result<Option<Version>> {
    let effective = find_at_query(variant, at).first(conn).await?;
    if effective.is_none() {
        variants::require(conn, variant).await?;
    }
    Ok(effective)
}

/// Every variant of `experiment` with the version that it serves now, in the order of the variants'
/// ids. Now is as in [`find_current_version`](crate::experiments::find_current_version).
///
/// The cost does not grow with the number of old versions.
///
/// # Errors
///
/// [`Error::ExperimentNotFound`](crate::Error::ExperimentNotFound).
pub async fn list_current(
    conn: &mut AsyncPgConnection,
    experiment: ExperimentId,
) -> Result<Vec<(Variant, Option<Version>)>> {
    let variants = list_current_query(experiment).load(conn).await?;
    if variants.is_empty() {
        experiments::require(conn, experiment).await?;
    }
    Ok(variants)
}

/// Every variant of `experiment` with the version that is effective at `at`, in the order of the
/// variants' ids.
///
/// # Errors
///
/// [`Error::ExperimentNotFound`](crate::Error::ExperimentNotFound).
pub async fn list_at(
    conn: &mut AsyncPgConnection,
    experiment: ExperimentId,
    at: Timestamp,
) -> Result<Vec<(Variant, Option<Version>)>> {
    let variants = list_at_query(experiment, at).load(conn).await?;
    if variants.is_empty() {
        experiments::require(conn, experiment).await?;
    }
    Ok(variants)
}

/// The variants of a locked experiment, each with which version it serves now.
pub(crate) async fn list_current_ids(
    conn: &mut AsyncPgConnection,
    experiment: ExperimentId,
) -> Result<Vec<(VariantId, Label, Option<VersionId>)>> {
    list_current_ids_query(experiment).load(conn).await
}

/// The versions of `variant`, scheduled ones too, newest first.
///
/// # Errors
///
/// [`Error::VariantNotFound`](crate::Error::VariantNotFound).
pub async fn list(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    page: Page<VersionId>,
) -> Result<Vec<Version>> {
    let versions = list_query(variant, page).load(conn).await?;
    if versions.is_empty() {
        variants::require(conn, variant).await?;
    }
    Ok(versions)
}

/// The instant for a version of a locked experiment's variant that is to be effective at once: now,
/// or just after the current version where the clock was set back.
pub(crate) async fn next_instant(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
) -> Result<Timestamp> {
    next_instant_query(variant).one(conn).await
}

/// Whether a version of a locked experiment's variant becomes effective at exactly `at`.
pub(crate) async fn exists_at(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    at: Timestamp,
) -> Result<bool> {
    exists_at_query(variant, at).one(conn).await
}

/// Inserts a version of a locked experiment's variant. `None` where it keeps a part of the version
/// that it replaces, and there is none.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    publication: &Publication<'_>,
    content: Content<'_>,
) -> Result<Option<Version>> {
    match content {
        Content::New { upstream, key } => {
            insert_query(publication, upstream, key).first(conn).await
        }
        Content::KeepKey(upstream) => {
            insert_with_upstream_query(publication, upstream).first(conn).await
        }
        Content::KeepUpstream(key) => insert_with_key_query(publication, key).first(conn).await,
    }
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};
    const INDEX: &str = "IDX_model_experiment_variant_version_variant_effective";
    const UNTIL: &str = "(variant_id = ?) AND (effective_at <= ?)";
    const EXACTLY: &str = "(variant_id = ?) AND (effective_at = ?)";
    const OF_EACH: &str = "variant_id = model_experiment_variant.id";
    const UNTIL_OF_EACH: &str =
        "(variant_id = model_experiment_variant.id) AND (effective_at <= ?)";
    const EXACTLY_OF_EACH: &str =
        "(variant_id = model_experiment_variant.id) AND (effective_at = ?)";
    let (variant, experienced) = (seed::variant(7), seed::variant(2001));
    let (at, next_year) = (seed::later(), seed::next_year());
    let (upstream, key) = (seed::upstream(), seed::key());
    let publication = Publication {
        variant,
        effective_at: next_year,
        created_by: Some("user-1"),
        created_at: Timestamp::now(),
    };
    let page = Page::first(10);
    let cursor = Cursor { at: seed::window().start, id: seed::version(320) };

    vec![
        query!(find_query(seed::version(7)))
            .by("model_experiment_variant_version_pkey", "id = ?")
            .rows(1, 1),
        query!(exists_at_query(variant, at)).by(INDEX, EXACTLY).rows(1, 0),
        query!(next_instant_query(variant)).by(INDEX, "variant_id = ?").rows(1, 1),
        query!(find_current_query(variant))
            .by(INDEX, "variant_id = ?")
            .by(INDEX, EXACTLY)
            .rows(1, 2),
        query!(find_current_query(experienced), "with a long history"),
        query!(find_at_query(variant, at)).by(INDEX, UNTIL).by(INDEX, EXACTLY).rows(1, 2),
        query!(find_at_query(experienced, at), "with a long history"),
        query!(list_current_query(seed::experiment(4)))
            .by("IDX_model_experiment_variant_experiment_id", "experiment_id = ?")
            .by(INDEX, OF_EACH)
            .by(INDEX, EXACTLY_OF_EACH)
            .by("model_experiment_variant_version_pkey", "id = (SubPlan 2)")
            .rows(2, 11),
        query!(list_current_query(seed::experiment(1001)), "with a long history"),
        query!(list_current_ids_query(seed::experiment(4)))
            .by("IDX_model_experiment_variant_experiment_id", "experiment_id = ?")
            .by(INDEX, OF_EACH)
            .by(INDEX, EXACTLY_OF_EACH)
            .rows(2, 10),
        query!(list_at_query(seed::experiment(4), at))
            .by("IDX_model_experiment_variant_experiment_id", "experiment_id = ?")
            .by(INDEX, UNTIL_OF_EACH)
            .by(INDEX, EXACTLY_OF_EACH)
            .by("model_experiment_variant_version_pkey", "id = (SubPlan 2)")
            .rows(2, 11),
        query!(list_at_query(seed::experiment(1001), at), "with a long history"),
        query!(list_query(variant, page)).by(INDEX, "variant_id = ?").rows(10, 11),
        query!(list_query(variant, Page::after(cursor, 10)), "after a cursor")
            .by(INDEX, UNTIL)
            .rows(10, 11),
        query!(insert_query(&publication, &upstream, &key)).rows(1, 0),
        query!(insert_with_upstream_query(&publication, &upstream))
            .by(INDEX, UNTIL)
            .by(INDEX, EXACTLY)
            .rows(1, 2),
        query!(insert_with_key_query(&publication, &key))
            .by(INDEX, UNTIL)
            .by(INDEX, EXACTLY)
            .rows(1, 2),
    ]
}
