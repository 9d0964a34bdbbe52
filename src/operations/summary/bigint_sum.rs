//! Sums of `bigint` columns, which PostgreSQL returns as `numeric`.

use diesel::data_types::PgNumeric;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::{BigInt, Nullable, Numeric};

#[diesel::declare_sql_function]
extern "SQL" {
    /// The sum of a `bigint` column. Diesel's own has no type to name in a row's selection.
    #[aggregate]
    #[sql_name = "sum"]
    fn total(column: BigInt) -> Nullable<Numeric>;
}

/// A sum of `bigint`s; 0 when there was nothing to sum up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromSqlRow)]
pub struct Total(i64);

impl From<Total> for i64 {
    fn from(total: Total) -> Self {
        total.0
    }
}

impl FromSql<Nullable<Numeric>, Pg> for Total {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let numeric = <PgNumeric as FromSql<Numeric, Pg>>::from_sql(value)?;
        Ok(Self(integer(&numeric).ok_or("a sum exceeds 64 bits")?))
    }

    fn from_nullable_sql(value: Option<PgValue<'_>>) -> deserialize::Result<Self> {
        value.map_or(Ok(Self(0)), Self::from_sql)
    }
}

/// The integer that `numeric` is: digits to the base 10,000, of which the first is multiplied by that to
/// the power of `weight`, and trailing zeros are left out.
fn integer(numeric: &PgNumeric) -> Option<i64> {
    let (sign, weight, digits) = match numeric {
        PgNumeric::Positive { weight, scale: 0, digits } => (1, *weight, digits),
        PgNumeric::Negative { weight, scale: 0, digits } => (-1, *weight, digits),
        _ => return None,
    };
    let mut places = digits.iter().copied().chain(std::iter::repeat(0));
    let magnitude = (0..=weight).try_fold(0_i128, |magnitude, _| {
        magnitude.checked_mul(10_000)?.checked_add(places.next()?.into())
    })?;
    (sign * magnitude).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positive(weight: i16, digits: &[i16]) -> PgNumeric {
        PgNumeric::Positive { weight, scale: 0, digits: digits.to_vec() }
    }

    fn negative(weight: i16, digits: &[i16]) -> PgNumeric {
        PgNumeric::Negative { weight, scale: 0, digits: digits.to_vec() }
    }

    #[test]
    fn reads_integers() {
        assert_eq!(integer(&positive(0, &[])), Some(0));
        assert_eq!(integer(&positive(0, &[7])), Some(7));
        assert_eq!(integer(&positive(2, &[1])), Some(100_000_000));
        assert_eq!(integer(&negative(1, &[12, 3456])), Some(-123_456));
        assert_eq!(integer(&positive(4, &[922, 3372, 368, 5477, 5807])), Some(i64::MAX));
        assert_eq!(integer(&negative(4, &[922, 3372, 368, 5477, 5808])), Some(i64::MIN));
    }

    #[test]
    fn refuses_what_64_bits_do_not_hold() {
        assert_eq!(integer(&positive(4, &[922, 3372, 368, 5477, 5808])), None);
        assert_eq!(integer(&positive(i16::MAX, &[1])), None);
        assert_eq!(integer(&PgNumeric::NaN), None);
        assert_eq!(
            integer(&PgNumeric::Positive { weight: 0, scale: 1, digits: vec![1, 5000] }),
            None
        );
    }
}
