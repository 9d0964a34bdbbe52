//! Instants of microsecond precision.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::data_types::PgTimestamp;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Timestamptz;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};

use crate::values::invalid::InvalidValue;

/// Instant in microseconds, which is PostgreSQL's precision, in the years that RFC 3339 can write.
///
/// Constructors cut off finer digits, so that an instant equals itself after it was stored.
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
#[diesel(sql_type = Timestamptz)]
#[serde(into = "DateTime<Utc>", try_from = "DateTime<Utc>")]
pub struct Timestamp(DateTime<Utc>);

const MIN: DateTime<Utc> = match DateTime::from_timestamp_micros(-62_135_596_800_000_000) {
    Some(instant) => instant,
    None => DateTime::<Utc>::MIN_UTC,
};

const MAX: DateTime<Utc> = match DateTime::from_timestamp_micros(253_402_300_799_999_999) {
    Some(instant) => instant,
    None => DateTime::<Utc>::MAX_UTC,
};

/// PostgreSQL counts from the year 2000.
const MICROSECONDS_FROM_1970_TO_2000: i64 = 946_684_800_000_000;

impl Timestamp {
    /// First instant of the year 1.
    pub const MIN: Self = Self(MIN);

    /// Last microsecond of the year 9999.
    pub const MAX: Self = Self(MAX);

    /// Current time of the machine's clock.
    #[expect(
        clippy::disallowed_methods,
        reason = "the application makes the instants that it records"
    )]
    pub fn now() -> Self {
        Self(Utc::now().trunc_subsecs(6))
    }

    /// Instant as a `DateTime` without finer digits than microseconds.
    pub const fn as_datetime(&self) -> &DateTime<Utc> {
        &self.0
    }
}

impl TryFrom<DateTime<Utc>> for Timestamp {
    type Error = InvalidValue;

    /// Cuts `instant` to microseconds; a leap second becomes the second after it.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] outside of [`MIN`](Self::MIN) to [`MAX`](Self::MAX).
    fn try_from(instant: DateTime<Utc>) -> Result<Self, InvalidValue> {
        // Carries a leap second over, as PostgreSQL does.
        DateTime::from_timestamp_micros(instant.timestamp_micros())
            .map(Self)
            .filter(|instant| (Self::MIN..=Self::MAX).contains(instant))
            .ok_or_else(|| InvalidValue::new("timestamp", "must lie in the years 1 to 9999"))
    }
}

impl From<Timestamp> for DateTime<Utc> {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

/// # Panics
///
/// If the result is out of a timestamp's range.
impl Add<TimeDelta> for Timestamp {
    type Output = Self;

    #[track_caller]
    fn add(self, duration: TimeDelta) -> Self {
        match Self::try_from(self.0 + duration) {
            Ok(sum) => sum,
            Err(error) => panic!("{error}"),
        }
    }
}

/// # Panics
///
/// If the result is out of a timestamp's range.
impl Sub<TimeDelta> for Timestamp {
    type Output = Self;

    #[track_caller]
    fn sub(self, duration: TimeDelta) -> Self {
        self + -duration
    }
}

impl Sub for Timestamp {
    type Output = TimeDelta;

    fn sub(self, earlier: Self) -> TimeDelta {
        self.0 - earlier.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
    }
}

impl ToSql<Timestamptz, Pg> for Timestamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        ToSql::<Timestamptz, Pg>::to_sql(&self.0, out)
    }
}

/// PostgreSQL's other instants, as `infinity`, are read as the nearest end of the range, so that no
/// row is unreadable for one.
impl FromSql<Timestamptz, Pg> for Timestamp {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let PgTimestamp(since_2000) = FromSql::<Timestamptz, Pg>::from_sql(value)?;
        let since_1970 = since_2000.saturating_add(MICROSECONDS_FROM_1970_TO_2000);
        let instant = DateTime::from_timestamp_micros(since_1970).map(Self);
        let end = if since_1970 < 0 { Self::MIN } else { Self::MAX };
        Ok(instant.unwrap_or(end).clamp(Self::MIN, Self::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    #[test]
    fn cuts_what_is_finer_than_a_microsecond() {
        let instant = Utc.timestamp_nanos(1_700_000_000_123_456_789);
        let cut = Timestamp::try_from(instant).unwrap();
        assert_eq!(*cut.as_datetime(), Utc.timestamp_nanos(1_700_000_000_123_456_000));
        assert_eq!(cut.to_string(), "2023-11-14T22:13:20.123456Z");
    }

    #[test]
    fn a_leap_second_is_the_one_after_it() {
        let leap: DateTime<Utc> = "2016-12-31T23:59:60.5Z".parse().unwrap();
        assert_eq!(Timestamp::try_from(leap).unwrap().to_string(), "2017-01-01T00:00:00.500000Z");
        let before: DateTime<Utc> = "1969-12-31T23:59:59.9999999Z".parse().unwrap();
        assert_eq!(Timestamp::try_from(before).unwrap().to_string(), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn lies_in_the_years_that_rfc_3339_can_write() {
        let [first, last] = [Timestamp::MIN, Timestamp::MAX];
        assert_eq!(first.to_string(), "0001-01-01T00:00:00.000000Z");
        assert_eq!(last.to_string(), "9999-12-31T23:59:59.999999Z");
        for inside in [*first.as_datetime(), *last.as_datetime()] {
            assert_eq!(Timestamp::try_from(inside).map(DateTime::from), Ok(inside));
        }
        let leap = last.as_datetime().date_naive().and_hms_nano_opt(23, 59, 59, 1_000_000_000);
        for outside in [
            *first.as_datetime() - TimeDelta::microseconds(1),
            *last.as_datetime() + TimeDelta::microseconds(1),
            leap.unwrap().and_utc(),
            DateTime::<Utc>::MIN_UTC,
            DateTime::<Utc>::MAX_UTC,
        ] {
            let error = Timestamp::try_from(outside).unwrap_err();
            assert_eq!(error.to_string(), "timestamp must lie in the years 1 to 9999", "{outside}");
        }
    }

    #[test]
    fn is_serialised_and_read_as_what_is_stored() {
        let timestamp: Timestamp =
            serde_json::from_str("\"2023-11-14T22:13:20.1234567Z\"").unwrap();
        assert_eq!(timestamp.to_string(), "2023-11-14T22:13:20.123456Z");
        assert_eq!(serde_json::to_string(&timestamp).unwrap(), "\"2023-11-14T22:13:20.123456Z\"");
        let finer: DateTime<Utc> = "2023-11-14T22:13:20.1234567Z".parse().unwrap();
        assert_eq!(Timestamp::try_from(finer), Ok(timestamp));
    }

    #[test]
    fn now_has_no_more_than_microseconds() {
        let now = Timestamp::now();
        assert_eq!(Timestamp::try_from(DateTime::from(now)), Ok(now));
    }
}
