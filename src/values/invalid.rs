//! Error of a refused value.

use std::borrow::Cow;

/// Error of a value that breaks a rule of its type.
///
/// Names the field and the rule. Never quotes the refused value, which could be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct InvalidValue {
    field: Cow<'static, str>,
    reason: Cow<'static, str>,
}

impl InvalidValue {
    /// Error of `field`; `reason` continues the sentence that `field` begins.
    pub fn new(field: impl Into<Cow<'static, str>>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }

    /// Path of the refused field, such as `upstream.base_url`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Broken rule, as the rest of a sentence, such as `must not be empty`.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_the_field_and_then_the_rule() {
        let invalid = InvalidValue::new("weight", "must be at least 1");
        assert_eq!((invalid.field(), invalid.reason()), ("weight", "must be at least 1"));
        assert_eq!(invalid.to_string(), "weight must be at least 1");
    }
}
