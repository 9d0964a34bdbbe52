//! Statuses of experiments.

use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use std::{fmt, str::FromStr};

use crate::values::invalid::InvalidValue;
use crate::values::stored_as_text::stored_as_text;

/// Status of an experiment.
///
/// Transitions: `draft → active`, `active ⇄ paused`, `active → completed`, `paused → completed`.
/// A draft may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Text)]
pub enum Status {
    /// In preparation and not routed. Only a draft's structure may change.
    Draft,
    /// Routed; its variants serve the public model id.
    Active,
    /// Routed, but closed; the gateway answers "not found" for the public model id.
    Paused,
    /// Ended and not routed. Only its name, description and archiving may change.
    Completed,
}

impl Status {
    /// All statuses, in the order of an experiment's life.
    pub const ALL: [Self; 4] = [Self::Draft, Self::Active, Self::Paused, Self::Completed];

    /// Name of the status, as stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Completed => "completed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| {
            InvalidValue::new("status", "must be one of draft, active, paused, completed")
        })
    }
}

stored_as_text!(Status);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_shows_in_the_order_of_life() {
        for (status, text) in
            Status::ALL.into_iter().zip(["draft", "active", "paused", "completed"])
        {
            assert_eq!(status.to_string(), text);
            assert_eq!(text.parse(), Ok(status));
        }
        assert_eq!(
            "Active".parse::<Status>().unwrap_err().to_string(),
            "status must be one of draft, active, paused, completed"
        );
    }
}
