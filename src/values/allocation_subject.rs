//! Kinds of subjects that requests are bucketed by.

use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use std::{fmt, str::FromStr};

use crate::values::invalid::InvalidValue;
use crate::values::stored_as_text::stored_as_text;

/// Kind of subject that a request was bucketed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Text)]
pub enum AllocationSubject {
    /// Id of the user.
    User,
    /// Id of the machine, if the client isn't signed in.
    Machine,
    /// IP address of the client, if nothing else is known.
    Ip,
}

impl AllocationSubject {
    /// All kinds, in order of precedence.
    pub const ALL: [Self; 3] = [Self::User, Self::Machine, Self::Ip];

    /// Name of the kind, as stored and as part of the bucketing seed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Machine => "machine",
            Self::Ip => "ip",
        }
    }
}

impl fmt::Display for AllocationSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for AllocationSubject {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::ALL.into_iter().find(|subject| subject.as_str() == text).ok_or_else(|| {
            InvalidValue::new("allocation subject", "must be one of user, machine, ip")
        })
    }
}

stored_as_text!(AllocationSubject);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_shows_in_the_order_of_precedence() {
        for (subject, text) in AllocationSubject::ALL.into_iter().zip(["user", "machine", "ip"]) {
            assert_eq!(subject.to_string(), text);
            assert_eq!(text.parse(), Ok(subject));
        }
        assert_eq!(
            "User".parse::<AllocationSubject>().unwrap_err().to_string(),
            "allocation subject must be one of user, machine, ip"
        );
    }
}
