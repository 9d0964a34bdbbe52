//! Weights of variants.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Integer;
use serde::{Deserialize, Serialize};
use std::fmt;

use crate::values::invalid::InvalidValue;

/// Share of users that a variant serves, relative to the sum of all weights of its experiment.
///
/// 1 to [`i32::MAX`].
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    AsExpression,
    FromSqlRow,
)]
#[diesel(sql_type = Integer)]
#[serde(into = "i32", try_from = "i32")]
pub struct Weight(i32);

impl Weight {
    /// Makes a weight of `weight`.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] if it isn't positive.
    pub fn new(weight: i32) -> Result<Self, InvalidValue> {
        if weight < 1 {
            return Err(InvalidValue::new("weight", "must be at least 1"));
        }
        Ok(Self(weight))
    }

    /// Weight as a number.
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl TryFrom<i32> for Weight {
    type Error = InvalidValue;

    fn try_from(weight: i32) -> Result<Self, InvalidValue> {
        Self::new(weight)
    }
}

impl From<Weight> for i32 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ToSql<Integer, Pg> for Weight {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        ToSql::<Integer, Pg>::to_sql(&self.0, out)
    }
}

impl FromSql<Integer, Pg> for Weight {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self::new(FromSql::<Integer, Pg>::from_sql(value)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_at_least_one() {
        for weight in [1, 7, i32::MAX] {
            assert_eq!(Weight::new(weight).unwrap().get(), weight);
        }
        for weight in [0, -1, i32::MIN] {
            assert_eq!(Weight::new(weight).unwrap_err().to_string(), "weight must be at least 1");
        }
    }

    #[test]
    fn is_shown_and_serialised_as_its_number() {
        let weight = Weight::new(7).unwrap();
        assert_eq!(weight.to_string(), "7");
        assert_eq!(serde_json::to_string(&weight).unwrap(), "7");
        assert_eq!(serde_json::from_str::<Weight>("7").unwrap(), weight);
        let error = serde_json::from_str::<Weight>("0").unwrap_err().to_string();
        assert_eq!(error, "weight must be at least 1");
    }
}
