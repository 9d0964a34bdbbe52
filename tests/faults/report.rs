//! How often what happened, as a table.

use comfy_table::presets::ASCII_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use std::collections::{BTreeMap, BTreeSet};

/// How often each thing happened.
pub type Counts = BTreeMap<&'static str, usize>;

/// To whom, and how often each thing.
pub type Column = (&'static str, Counts);

/// How often everything happened together.
pub fn total(columns: &[Column]) -> usize {
    columns.iter().flat_map(|(_, counts)| counts.values()).sum()
}

/// What happened, with a line for each.
pub fn table(what: &str, columns: &[Column]) -> Table {
    let mut table = Table::new();
    let header =
        [what].into_iter().chain(columns.iter().map(|(name, _)| *name)).chain(["together"]);
    table.load_style(ASCII_FULL_CONDENSED).set_header(header);
    let lines: BTreeSet<_> = columns.iter().flat_map(|(_, counts)| counts.keys()).collect();
    for line in lines {
        let counts: Vec<_> = columns.iter().map(|(_, counts)| counts.get(line).copied()).collect();
        let together = counts.iter().flatten().sum();
        let numbers = counts.into_iter().chain([Some(together)]);
        let numbers = numbers.map(|count| count.map(|count| count.to_string()).unwrap_or_default());
        table.add_row([(*line).to_owned()].into_iter().chain(numbers));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
