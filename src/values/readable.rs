//! Values of the database that may break a rule of their type.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::Jsonb;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::values::invalid::InvalidValue;

/// Value, or the rule that the stored one breaks.
///
/// A row that holds it is read all the same, and keeps no other row from being read.
#[derive(Debug, Clone, PartialEq, FromSqlRow)]
pub struct Readable<T>(pub(crate) Result<T, InvalidValue>);

impl<T: TryFrom<Value, Error = InvalidValue>> FromSql<Jsonb, Pg> for Readable<T> {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        // `jsonb` holds more than serde_json reads: numbers of any size, any depth.
        let json = <Value as FromSql<Jsonb, Pg>>::from_sql(value)
            .map_err(|_| InvalidValue::new("the JSON", "is too deep, or has a number too large"));
        Ok(Self(json.and_then(TryInto::try_into)))
    }
}

/// As null where it can't be read.
impl<T: Serialize> Serialize for Readable<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().ok().serialize(serializer)
    }
}
