//! Instants of microsecond precision.

use chrono::{DateTime, SubsecRound, TimeDelta, TimeZone, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Timestamptz;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};

use crate::values::invalid::InvalidValue;

/// Instant in microseconds, which is PostgreSQL's precision.
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

impl Timestamp {
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
    /// [`InvalidValue`] before 4714-11-24 BC, where PostgreSQL's calendar begins, and for a leap
    /// second at the end of chrono's.
    fn try_from(instant: DateTime<Utc>) -> Result<Self, InvalidValue> {
        let first = Utc.with_ymd_and_hms(-4713, 11, 24, 0, 0, 0).single();
        if first.is_some_and(|first| instant < first) {
            return Err(InvalidValue::new("timestamp", "must not lie before 4714-11-24 BC"));
        }
        // Carries a leap second over, as PostgreSQL does.
        DateTime::from_timestamp_micros(instant.timestamp_micros())
            .map(Self)
            .ok_or_else(|| InvalidValue::new("timestamp", "must lie before the year 262143"))
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

impl FromSql<Timestamptz, Pg> for Timestamp {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        FromSql::<Timestamptz, Pg>::from_sql(value).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn refuses_what_postgresql_has_no_calendar_for() {
        let error = Timestamp::try_from(DateTime::<Utc>::MIN_UTC).unwrap_err();
        assert_eq!(error.to_string(), "timestamp must not lie before 4714-11-24 BC");
        let first = Utc.with_ymd_and_hms(-4713, 11, 24, 0, 0, 0).unwrap();
        assert_eq!(Timestamp::try_from(first).unwrap().as_datetime(), &first);
        assert!(Timestamp::try_from(first - TimeDelta::nanoseconds(1)).is_err());
    }

    #[test]
    fn refuses_what_chrono_has_no_calendar_for() {
        let last = DateTime::<Utc>::MAX_UTC;
        assert!(Timestamp::try_from(last).is_ok());
        let leap = last.date_naive().and_hms_nano_opt(23, 59, 59, 1_000_000_000).unwrap();
        let error = Timestamp::try_from(leap.and_utc()).unwrap_err();
        assert_eq!(error.to_string(), "timestamp must lie before the year 262143");
    }

    #[test]
    fn postgresqls_calendar_begins_in_4714_bc() {
        let first = Utc.with_ymd_and_hms(-4713, 11, 24, 0, 0, 0).unwrap();
        assert_eq!(Timestamp::try_from(first).map(DateTime::from), Ok(first));
        assert!(Timestamp::try_from(first - TimeDelta::microseconds(1)).is_err());
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
