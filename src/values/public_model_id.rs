//! Model ids that clients request.

use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use std::{borrow::Borrow, fmt, str::FromStr};

use crate::values::invalid::InvalidValue;
use crate::values::stored_as_text::stored_as_text;

/// Model id that clients request, such as `partner/preview-foo`.
///
/// 1 to 200 characters, without white space and control characters. One that another writer has
/// stored is read as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Text)]
pub struct PublicModelId(String);

impl PublicModelId {
    /// Longest id, in characters.
    pub const MAX_CHARS: usize = 200;

    /// Makes an id of `text`.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] if it is empty, too long, or contains white space or a control character.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidValue> {
        let text = text.into();
        Self::check(&text)?;
        Ok(Self(text))
    }

    fn check(text: &str) -> Result<(), InvalidValue> {
        const FIELD: &str = "public model id";
        if text.is_empty() {
            return Err(InvalidValue::new(FIELD, "must not be empty"));
        }
        if text.chars().nth(Self::MAX_CHARS).is_some() {
            return Err(InvalidValue::new(FIELD, "must be at most 200 characters long"));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(InvalidValue::new(
                FIELD,
                "must not contain white space or control characters",
            ));
        }
        Ok(())
    }

    /// Makes an id of `text`, unless it begins with a prefix that the host reserves for itself.
    ///
    /// # Errors
    ///
    /// As [`PublicModelId::new`], and if `text` begins with one of `reserved`.
    pub fn with_reserved_prefixes(
        text: impl Into<String>,
        reserved: &[&str],
    ) -> Result<Self, InvalidValue> {
        let id = Self::new(text)?;
        match reserved.iter().find(|prefix| id.0.starts_with(**prefix)) {
            Some(prefix) => Err(InvalidValue::new(
                "public model id",
                format!("must not begin with the reserved prefix {prefix}"),
            )),
            None => Ok(id),
        }
    }

    /// Id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for PublicModelId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for PublicModelId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        // Checked before the copy: `text` may be of any length.
        Self::check(text)?;
        Ok(Self(text.to_owned()))
    }
}

stored_as_text!(PublicModelId, unchecked: |text| Ok(PublicModelId(text.to_owned())));

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn reason(text: &str) -> String {
        PublicModelId::new(text).unwrap_err().to_string()
    }

    #[test]
    fn accepts_ids_up_to_two_hundred_characters() {
        for text in ["a", "partner/preview-foo", &"é".repeat(200)] {
            assert_eq!(PublicModelId::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(reason(""), "public model id must not be empty");
        assert_eq!(reason(&"é".repeat(201)), "public model id must be at most 200 characters long");
        for text in ["a b", "a\tb", "a\u{a0}b", "a\0b", "a\u{7f}", "\u{85}"] {
            assert_eq!(
                reason(text),
                "public model id must not contain white space or control characters"
            );
        }
    }

    #[test]
    fn refuses_reserved_prefixes() {
        let reserved = ["internal/", "kilo-"];
        assert!(PublicModelId::with_reserved_prefixes("partner/internal/x", &reserved).is_ok());
        let error = PublicModelId::with_reserved_prefixes("kilo-auto", &reserved).unwrap_err();
        assert_eq!(error.reason(), "must not begin with the reserved prefix kilo-");
    }

    #[test]
    fn reads_what_it_shows_and_is_found_by_its_text() {
        let id: PublicModelId = "partner/preview-foo".parse().unwrap();
        assert_eq!(id.to_string(), "partner/preview-foo");
        assert!("a b".parse::<PublicModelId>().is_err());
        assert_eq!(HashSet::from([id.clone()]).get("partner/preview-foo"), Some(&id));
    }
}
