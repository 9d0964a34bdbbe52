//! References to prompts: a hash, or the reason why there is none.

use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use std::{fmt, str::FromStr};

use crate::values::invalid::InvalidValue;
use crate::values::prompt::sha256::Sha256Digest;
use crate::values::stored_as_text::stored_as_text;

const FAILED: &str = "__failed__";
const DELETED: &str = "__deleted__";
const ABSENT: &str = "__absent__";

/// Reference to the system prompt of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Text)]
pub enum SystemPromptRef {
    /// Key of the text in the host's blob store.
    Sha256(Sha256Digest),
    /// The request had no single leading system message.
    Absent,
    /// The text wasn't captured, or couldn't be stored.
    Failed,
    /// The text was deleted from the blob store.
    Deleted,
}

/// Reference to the rest of a request's body, which is never absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Text)]
pub enum RequestBodyRef {
    /// Key of the text in the host's blob store.
    Sha256(Sha256Digest),
    /// The text wasn't captured, or couldn't be stored.
    Failed,
    /// The text was deleted from the blob store.
    Deleted,
}

impl fmt::Display for SystemPromptRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => digest.fmt(f),
            Self::Absent => f.pad(ABSENT),
            Self::Failed => f.pad(FAILED),
            Self::Deleted => f.pad(DELETED),
        }
    }
}

impl fmt::Display for RequestBodyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => digest.fmt(f),
            Self::Failed => f.pad(FAILED),
            Self::Deleted => f.pad(DELETED),
        }
    }
}

impl FromStr for SystemPromptRef {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            ABSENT => Ok(Self::Absent),
            FAILED => Ok(Self::Failed),
            DELETED => Ok(Self::Deleted),
            digest => digest.parse().map(Self::Sha256).map_err(|_| {
                InvalidValue::new(
                    "system prompt reference",
                    "must be 64 lower-case hexadecimal digits, __absent__, __failed__ or __deleted__",
                )
            }),
        }
    }
}

impl FromStr for RequestBodyRef {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            FAILED => Ok(Self::Failed),
            DELETED => Ok(Self::Deleted),
            digest => digest.parse().map(Self::Sha256).map_err(|_| {
                InvalidValue::new(
                    "request body reference",
                    "must be 64 lower-case hexadecimal digits, __failed__ or __deleted__",
                )
            }),
        }
    }
}

stored_as_text!(SystemPromptRef);
stored_as_text!(RequestBodyRef);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_what_they_show() {
        let digest = Sha256Digest::of("abc");
        for reference in [
            SystemPromptRef::Sha256(digest),
            SystemPromptRef::Absent,
            SystemPromptRef::Failed,
            SystemPromptRef::Deleted,
        ] {
            assert_eq!(reference.to_string().parse(), Ok(reference));
        }
        for reference in
            [RequestBodyRef::Sha256(digest), RequestBodyRef::Failed, RequestBodyRef::Deleted]
        {
            assert_eq!(reference.to_string().parse(), Ok(reference));
        }
    }

    #[test]
    fn a_body_is_never_absent() {
        assert_eq!(
            "__absent__".parse::<RequestBodyRef>().unwrap_err().to_string(),
            "request body reference must be 64 lower-case hexadecimal digits, __failed__ or __deleted__"
        );
        assert!("".parse::<SystemPromptRef>().is_err());
    }
}
