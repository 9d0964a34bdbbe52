//! What PostgreSQL can store as text.

use super::InvalidValue;

/// Refuses text that PostgreSQL can't store: it has no NUL character.
pub(crate) fn storable(field: &'static str, text: &str) -> Result<(), InvalidValue> {
    if text.contains('\0') {
        return Err(InvalidValue::new(field, "must not contain a NUL character"));
    }
    Ok(())
}
