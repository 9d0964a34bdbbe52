//! Labels of variants.

use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use std::{fmt, str::FromStr};

use crate::values::invalid::InvalidValue;
use crate::values::stored_as_text::stored_as_text;
use crate::values::text::storable;

/// Operators' name of a variant, such as `control`: 1 to 64 characters.
///
/// Unique within its experiment. It has no influence on bucketing. One that another writer has
/// stored is read as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Text)]
pub struct Label(String);

impl Label {
    /// Longest label, in characters.
    pub const MAX_CHARS: usize = 64;

    /// Makes a label of `text`.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] if it is empty, too long, or contains a NUL character.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidValue> {
        let text = text.into();
        Self::check(&text)?;
        Ok(Self(text))
    }

    fn check(text: &str) -> Result<(), InvalidValue> {
        const FIELD: &str = "label";
        if text.is_empty() {
            return Err(InvalidValue::new(FIELD, "must not be empty"));
        }
        if text.chars().nth(Self::MAX_CHARS).is_some() {
            return Err(InvalidValue::new(FIELD, "must be at most 64 characters long"));
        }
        storable(FIELD, text)
    }

    /// Label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Label {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        // Checked before the copy: `text` may be of any length.
        Self::check(text)?;
        Ok(Self(text.to_owned()))
    }
}

stored_as_text!(Label, unchecked: |text| Ok(Label(text.to_owned())));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_one_to_sixty_four_characters() {
        assert!(Label::new("ж".repeat(64)).is_ok());
        assert_eq!(Label::new("").unwrap_err().to_string(), "label must not be empty");
        assert_eq!(
            Label::new("ж".repeat(65)).unwrap_err().to_string(),
            "label must be at most 64 characters long"
        );
        assert_eq!(
            Label::new("a\0").unwrap_err().to_string(),
            "label must not contain a NUL character"
        );
    }

    #[test]
    fn reads_what_it_shows() {
        let label: Label = "control".parse().unwrap();
        assert_eq!((label.as_str(), label.to_string().as_str()), ("control", "control"));
        assert!("".parse::<Label>().is_err());
    }
}
