//! What routing reads, and in which groups.

use chrono::{DateTime, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::sql_types::{Integer, Jsonb, Record, Timestamptz, Uuid as SqlUuid};
use serde_json::Value;
use std::collections::HashMap;

use crate::schema::{model_experiment, model_experiment_variant};
use crate::values::{
    EncryptedApiKey, ExperimentId, InvalidValue, Status, Upstream, VariantId, VersionId, Weight,
};

/// An experiment. Its public model id is plain text: one that breaks the rule of its type must not keep the other
/// experiments from being loaded.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = model_experiment, check_for_backend(Pg))]
pub(crate) struct HeadRow {
    pub(super) id: ExperimentId,
    pub(super) public_model_id: String,
    pub(super) status: Status,
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = model_experiment_variant, check_for_backend(Pg))]
pub(crate) struct VariantRow {
    pub(super) id: VariantId,
    pub(super) weight: Readable<Weight>,
}

/// Which version it is, read as one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromSqlRow)]
pub(crate) struct Identity {
    id: VersionId,
    /// A version is never changed, but its key may be encrypted anew.
    key_hash: i32,
}

/// The SQL type of an [`Identity`].
pub(super) type SqlIdentity = Record<(SqlUuid, Integer)>;

impl Identity {
    pub(super) fn id(&self) -> VersionId {
        self.id
    }
}

impl FromSql<SqlIdentity, Pg> for Identity {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let (id, key_hash) = FromSql::<SqlIdentity, Pg>::from_sql(value)?;
        Ok(Self { id, key_hash })
    }
}

/// A version, read as one value.
#[derive(Debug, FromSqlRow)]
pub(crate) struct VersionRow {
    pub(super) identity: Identity,
    pub(super) upstream: Readable<Upstream>,
    pub(super) encrypted_api_key: Readable<EncryptedApiKey>,
}

/// The SQL type of a [`VersionRow`].
pub(super) type SqlVersion = Record<(SqlIdentity, Jsonb, Jsonb)>;

impl FromSql<SqlVersion, Pg> for VersionRow {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let (identity, upstream, encrypted_api_key) = FromSql::<SqlVersion, Pg>::from_sql(value)?;
        Ok(Self { identity, upstream, encrypted_api_key })
    }
}

/// A value that may break a rule of its type: what can't be read must keep nothing else from being served.
#[derive(Debug, FromSqlRow)]
pub(crate) struct Readable<T>(pub(super) Result<T, InvalidValue>);

impl<T: TryFrom<Value, Error = InvalidValue>> FromSql<Jsonb, Pg> for Readable<T> {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        // `jsonb` holds more than serde_json reads: numbers of any size, any depth.
        let json = <Value as FromSql<Jsonb, Pg>>::from_sql(value)
            .map_err(|_| InvalidValue::new("the JSON", "is too deep, or has a number too large"));
        Ok(Self(json.and_then(TryInto::try_into)))
    }
}

impl FromSql<Integer, Pg> for Readable<Weight> {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(Weight::new(FromSql::<Integer, Pg>::from_sql(value)?)))
    }
}

impl FromSql<Timestamptz, Pg> for Readable<DateTime<Utc>> {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let instant = <DateTime<Utc> as FromSql<Timestamptz, Pg>>::from_sql(value);
        Ok(Self(instant.map_err(|_| InvalidValue::new("the instant", "is beyond any calendar"))))
    }
}

/// An experiment with one of its variants, if it has any; the variant's current version as a `V`; when the next one
/// takes over, if one is scheduled; and what time it is by the database's clock.
pub(crate) type Row<V> =
    (HeadRow, Option<VariantRow>, Option<V>, Option<Readable<DateTime<Utc>>>, DateTime<Utc>);

/// A variant of an experiment, as it was read.
#[derive(Debug)]
pub(super) struct Slot<V> {
    pub(super) id: VariantId,
    pub(super) weight: Result<Weight, InvalidValue>,
    pub(super) current: Option<V>,
    pub(super) next: Option<DateTime<Utc>>,
}

/// Experiments with their variants in ascending order of their ids, as bucketing walks them. The database isn't
/// asked to sort what may be a hundred megabytes.
pub(super) fn grouped<V>(rows: Vec<Row<V>>) -> impl Iterator<Item = (HeadRow, Vec<Slot<V>>)> {
    let mut experiments: HashMap<ExperimentId, (HeadRow, Vec<Slot<V>>)> = HashMap::new();
    for (head, variant, current, next, _) in rows {
        let (_, slots) = experiments.entry(head.id).or_insert_with(|| (head, Vec::new()));
        slots.extend(variant.map(|VariantRow { id, weight: Readable(weight) }| {
            // Nobody lives to see an instant that can't be read.
            let next = next.and_then(|Readable(instant)| instant.ok());
            Slot { id, weight, current, next }
        }));
    }
    experiments.into_values().map(|(head, mut slots)| {
        slots.sort_unstable_by_key(|slot| slot.id);
        (head, slots)
    })
}
