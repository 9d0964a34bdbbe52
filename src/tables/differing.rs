//! The columns in which a row differs from the stored one.

/// The names of the columns that aren't the same.
pub(super) fn differing<const COLUMNS: usize>(
    columns: [(&'static str, bool); COLUMNS],
) -> Vec<&'static str> {
    let differs = |(column, is_same): (_, bool)| (!is_same).then_some(column);
    columns.into_iter().filter_map(differs).collect()
}
