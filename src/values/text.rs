//! What PostgreSQL can store as text.

use super::InvalidValue;

/// Refuses text that PostgreSQL can't store: it has no NUL character.
pub(crate) fn storable(field: &'static str, text: &str) -> Result<(), InvalidValue> {
    if text.contains('\0') {
        return Err(InvalidValue::new(field, "must not contain a NUL character"));
    }
    Ok(())
}

/// The longest text in an index, in bytes: a page of an index has no room for much longer ones.
const MAX_INDEXED: usize = 2_048;

/// Refuses text that PostgreSQL can't store in an indexed column.
pub(crate) fn indexable(field: &'static str, text: &str) -> Result<(), InvalidValue> {
    if text.len() > MAX_INDEXED {
        return Err(InvalidValue::new(field, "must be at most 2048 bytes long"));
    }
    storable(field, text)
}
