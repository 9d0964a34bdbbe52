//! Rules of text that PostgreSQL stores.

use crate::values::invalid::InvalidValue;

/// Longest text, in bytes: far longer than any name, id or description.
///
/// PostgreSQL takes up to a gigabyte. Beyond that it closes the connection, after the text was
/// copied and sent.
pub(crate) const MAX_TEXT: usize = 65_536;

/// Longest indexed text, in bytes; an index page has no room for much longer ones.
const MAX_INDEXED: usize = 2_048;

/// Refuses text that is too long or contains NUL, which PostgreSQL can't store.
pub(crate) fn storable(field: &str, text: &str) -> Result<(), InvalidValue> {
    if text.len() > MAX_TEXT {
        return Err(InvalidValue::new(field.to_owned(), "must be at most 65536 bytes long"));
    }
    if text.contains('\0') {
        return Err(InvalidValue::new(field.to_owned(), "must not contain a NUL character"));
    }
    Ok(())
}

/// Refuses text that an indexed column can't store.
pub(crate) fn indexable(field: &str, text: &str) -> Result<(), InvalidValue> {
    if text.len() > MAX_INDEXED {
        return Err(InvalidValue::new(field.to_owned(), "must be at most 2048 bytes long"));
    }
    storable(field, text)
}

/// Frees unused capacity, and returns the number of bytes still allocated.
pub(crate) fn shrink_to_fit(text: &mut String) -> usize {
    text.shrink_to_fit();
    text.capacity()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_counted_in_bytes_and_before_anything_else() {
        type Check = fn(&str, &str) -> Result<(), InvalidValue>;
        for (longest, check, expected) in [
            (65_536, storable as Check, "it must be at most 65536 bytes long"),
            (2_048, indexable, "it must be at most 2048 bytes long"),
        ] {
            assert_eq!(check("it", &"é".repeat(longest / 2)), Ok(()));
            let longer = "é".repeat(longest / 2) + "\0";
            assert_eq!(check("it", &longer).unwrap_err().to_string(), expected);
            let error = check("it", &longer[2..]).unwrap_err();
            assert_eq!(error.to_string(), "it must not contain a NUL character");
        }
    }
}
