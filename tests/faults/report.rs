//! Counts, as tables.

use comfy_table::presets::ASCII_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use std::collections::{BTreeMap, BTreeSet};

/// How often each kind of event happened.
pub type Counts = BTreeMap<&'static str, usize>;

/// A column of a table.
#[derive(Debug)]
pub struct Column {
    name: &'static str,
    counts: Counts,
}

impl Column {
    pub fn new(name: &'static str, counts: Counts) -> Self {
        Self { name, counts }
    }

    /// The kinds of events that happened.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.counts.iter().filter(|(_, count)| **count > 0).map(|(kind, _)| *kind)
    }
}

/// The sum of all counts.
pub fn total(columns: &[Column]) -> usize {
    columns.iter().flat_map(|column| column.counts.values()).sum()
}

/// A table with a line for each kind of event.
pub fn table(title: &str, columns: &[Column]) -> Table {
    let mut table = Table::new();
    let names = columns.iter().map(|column| column.name);
    let header = [title].into_iter().chain(names).chain(["total"]);
    table.load_style(ASCII_FULL_CONDENSED).set_header(header);
    let kinds: BTreeSet<_> = columns.iter().flat_map(|column| column.counts.keys()).collect();
    for kind in kinds {
        let counts: Vec<_> = columns.iter().map(|column| column.counts.get(kind)).collect();
        let total: usize = counts.iter().copied().flatten().sum();
        let counts = counts.into_iter().chain([Some(&total)]);
        let numbers = counts.map(|count| count.map(usize::to_string).unwrap_or_default());
        table.add_row([(*kind).to_owned()].into_iter().chain(numbers));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
