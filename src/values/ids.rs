//! Ids, each of its own type, so that the compiler tells them apart.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

use crate::values::invalid::InvalidValue;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            AsExpression, FromSqlRow,
        )]
        #[diesel(sql_type = diesel::sql_types::Uuid)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Id as a plain UUID.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                text.parse()
                    .map(Self)
                    .map_err(|_| InvalidValue::new($field, "must be a UUID"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.hyphenated())
            }
        }

        impl ToSql<diesel::sql_types::Uuid, Pg> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                ToSql::<diesel::sql_types::Uuid, Pg>::to_sql(&self.0, out)
            }
        }

        impl FromSql<diesel::sql_types::Uuid, Pg> for $name {
            fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
                <Uuid as FromSql<diesel::sql_types::Uuid, Pg>>::from_sql(value).map(Self)
            }
        }
    };
}

id!(
    /// Id of an experiment.
    ExperimentId,
    "experiment id"
);
id!(
    /// Id of a variant of an experiment.
    VariantId,
    "variant id"
);
id!(
    /// Id of a version, the immutable upstream configuration of a variant.
    VersionId,
    "version id"
);
id!(
    /// Id of a usage and of the request that belongs to it.
    UsageId,
    "usage id"
);

impl UsageId {
    /// Makes a new id. Make one per served request, and keep it on a retry.
    ///
    /// It is a UUIDv7: later ids sort higher, so that inserts append to the primary key.
    #[expect(clippy::new_without_default, reason = "each call makes another id")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0193b5c0-7e2a-7c31-9f4e-2b6a1d8c5e90";

    #[test]
    fn are_shown_and_read_as_uuids() {
        let id: VariantId = TEXT.to_uppercase().parse().unwrap();
        assert_eq!(id.to_string(), TEXT);
        assert_eq!(format!("{id:?}"), format!("VariantId({TEXT})"));
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{TEXT}\""));
        assert_eq!(serde_json::from_str::<VariantId>(&format!("\"{TEXT}\"")).unwrap(), id);
        assert_eq!(VariantId::from(Uuid::from(id)), id);
        assert_eq!("7".parse::<VariantId>().unwrap_err().to_string(), "variant id must be a UUID");
    }

    #[test]
    fn a_later_usage_has_a_higher_id() {
        let [first, second] = [UsageId::new(), UsageId::new()];
        assert!(first < second);
        assert_eq!(first.as_uuid().get_version_num(), 7);
    }
}
