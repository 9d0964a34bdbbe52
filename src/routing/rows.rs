//! What routing reads.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::sql_types::{Integer, Jsonb, Nullable, Record, Uuid as SqlUuid};
use std::collections::HashMap;

use crate::schema::{model_experiment as experiment, model_experiment_variant as variant};
use crate::values::{
    EncryptedApiKey, ExperimentId, InvalidValue, Readable, Status, Timestamp, Upstream, VariantId,
    VersionId, Weight,
};

/// Up to how many bytes JSON is loaded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// As it is stored, which may be compressed to a hundredth.
    pub(super) stored: i32,
    /// As text.
    pub(super) text: i32,
    /// The stored size up to which the text isn't measured, since measuring it takes as long as
    /// loading it.
    pub(super) unmeasured: i32,
}

/// A published upstream counts at most 1 MiB, and is up to six times as long where JSON escapes its
/// characters.
pub(super) const UPSTREAM_LIMIT: Limit =
    Limit { stored: 2 << 20, text: 8 << 20, unmeasured: 32 << 10 };

/// Twice what can be published.
pub(super) const KEY_LIMIT: Limit =
    Limit { stored: 128 << 10, text: 128 << 10, unmeasured: 2 << 10 };

/// An experiment. Its public model id is plain text, so that one that breaks the rule of its type
/// keeps no other experiment from being loaded.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = experiment, check_for_backend(Pg))]
pub(crate) struct ExperimentRow {
    pub(super) id: ExperimentId,
    pub(super) public_model_id: String,
    pub(super) status: Status,
}

/// A variant.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = variant, check_for_backend(Pg))]
pub(crate) struct VariantRow {
    id: VariantId,
    weight: Readable<Weight>,
}

/// Which version is current, read as one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromSqlRow)]
pub(crate) struct VersionIdentity {
    pub(super) id: VersionId,
    /// A version never changes, but its key may be encrypted anew. `None` when the key is too long.
    key_hash: Option<i32>,
}

/// The SQL type of a [`VersionIdentity`].
pub(super) type SqlIdentity = Record<(SqlUuid, Nullable<Integer>)>;

impl FromSql<SqlIdentity, Pg> for VersionIdentity {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let (id, key_hash) = FromSql::<SqlIdentity, Pg>::from_sql(value)?;
        Ok(Self { id, key_hash })
    }
}

/// A version, read as one value.
#[derive(Debug, FromSqlRow)]
pub(crate) struct VersionRow {
    pub(super) identity: VersionIdentity,
    pub(super) upstream: Readable<Upstream>,
    pub(super) encrypted_api_key: Readable<EncryptedApiKey>,
}

/// The SQL type of a [`VersionRow`].
pub(super) type SqlVersion = Record<(SqlIdentity, Nullable<Jsonb>, Nullable<Jsonb>)>;

impl FromSql<SqlVersion, Pg> for VersionRow {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let (identity, upstream, key) = FromSql::<SqlVersion, Pg>::from_sql(value)?;
        let (upstream, key): (Option<Readable<_>>, Option<Readable<_>>) = (upstream, key);
        Ok(Self {
            identity,
            upstream: upstream.unwrap_or_else(|| too_long("upstream", "1 MiB")),
            encrypted_api_key: key.unwrap_or_else(|| too_long("encrypted_api_key", "64 KiB")),
        })
    }
}

/// What stands for a value that wasn't loaded, because of its length.
fn too_long<T>(field: &'static str, limit: &str) -> Readable<T> {
    Readable(Err(InvalidValue::new(field, format!("must be at most {limit} long"))))
}

impl FromSql<Integer, Pg> for Readable<Weight> {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(Weight::new(FromSql::<Integer, Pg>::from_sql(value)?)))
    }
}

/// An experiment with one of its variants, if it has any, and what is current of that.
#[derive(Debug, Queryable)]
#[diesel(check_for_backend(Pg))]
pub(crate) struct Row<V> {
    experiment: ExperimentRow,
    variant: Option<VariantRow>,
    current: Option<V>,
}

/// What a cache asks beside: when the variant's next version becomes effective, and what time it
/// is.
#[derive(Debug, Queryable)]
#[diesel(check_for_backend(Pg))]
pub(crate) struct PolledRow<V> {
    experiment: ExperimentRow,
    variant: Option<VariantRow>,
    current: Option<V>,
    next_effective_at: Option<Timestamp>,
    /// By the database's clock.
    pub(super) now: Timestamp,
}

impl<V> PolledRow<V> {
    /// The row, and the instant at which the variant's next version becomes effective.
    pub(super) fn split(self) -> (Row<V>, Option<Timestamp>) {
        let Self { experiment, variant, current, next_effective_at, now: _ } = self;
        (Row { experiment, variant, current }, next_effective_at)
    }
}

/// A variant as it was read.
#[derive(Debug)]
pub(super) struct Variant<V> {
    pub(super) id: VariantId,
    pub(super) weight: Result<Weight, InvalidValue>,
    /// The current version, or which it is.
    pub(super) current: Option<V>,
    pub(super) next_effective_at: Option<Timestamp>,
}

/// An experiment with its variants, in ascending order of their ids.
#[derive(Debug)]
pub(super) struct Experiment<V> {
    pub(super) row: ExperimentRow,
    pub(super) variants: Vec<Variant<V>>,
}

/// Groups rows, each with the instant at which its variant's next version becomes effective, by
/// experiment. The database isn't asked to sort what may be a hundred megabytes.
pub(super) fn grouped<V>(
    rows: impl IntoIterator<Item = (Row<V>, Option<Timestamp>)>,
) -> impl Iterator<Item = Experiment<V>> {
    let mut experiments: HashMap<ExperimentId, Experiment<V>> = HashMap::new();
    for (Row { experiment: row, variant, current }, next_effective_at) in rows {
        let experiment =
            experiments.entry(row.id).or_insert_with(|| Experiment { row, variants: Vec::new() });
        experiment.variants.extend(variant.map(|VariantRow { id, weight: Readable(weight) }| {
            Variant { id, weight, current, next_effective_at }
        }));
    }
    experiments.into_values().map(|mut experiment| {
        experiment.variants.sort_unstable_by_key(|variant| variant.id);
        experiment
    })
}
