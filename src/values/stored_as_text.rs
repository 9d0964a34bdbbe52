//! Mapping of values to text columns and serde strings.

/// Implements Diesel's and serde's traits by `Display` and `FromStr<Err = InvalidValue>`.
///
/// `unchecked` makes a value of what is stored, as another writer may have left it.
macro_rules! stored_as_text {
    ($type:ty) => {
        stored_as_text!($type, unchecked: |text| text.parse::<$type>());
    };
    ($type:ty, unchecked: $unchecked:expr) => {
        impl diesel::serialize::ToSql<diesel::sql_types::Text, diesel::pg::Pg> for $type {
            fn to_sql<'b>(
                &'b self,
                out: &mut diesel::serialize::Output<'b, '_, diesel::pg::Pg>,
            ) -> diesel::serialize::Result {
                use std::io::Write;
                write!(out, "{self}")?;
                Ok(diesel::serialize::IsNull::No)
            }
        }

        impl diesel::deserialize::FromSql<diesel::sql_types::Text, diesel::pg::Pg> for $type {
            fn from_sql(value: diesel::pg::PgValue<'_>) -> diesel::deserialize::Result<Self> {
                let unchecked: fn(&str) -> Result<Self, crate::values::InvalidValue> = $unchecked;
                Ok(unchecked(std::str::from_utf8(value.as_bytes())?)?)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text =
                    <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use stored_as_text;

#[cfg(test)]
mod tests {
    use crate::values::label::Label;
    use crate::values::status::Status;

    #[test]
    fn is_serialised_as_what_is_shown_and_checked_when_read() {
        assert_eq!(serde_json::to_string(&Status::Paused).unwrap(), "\"paused\"");
        assert_eq!(serde_json::from_str::<Status>("\"paused\"").unwrap(), Status::Paused);
        let error = serde_json::from_str::<Label>("\"\"").unwrap_err().to_string();
        assert_eq!(error, "label must not be empty");
    }
}
