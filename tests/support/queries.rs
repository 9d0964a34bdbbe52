//! The SQL of the registered queries, where it is kept for review and as what.

use sqlformat::{FormatOptions, QueryParams};
use std::path::{Path, PathBuf};

/// The folder with a file for each.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/queries")
}

/// A statement as its file has it.
pub fn formatted(sql: &str) -> String {
    let sql = sqlformat::format(sql, &QueryParams::None, &FormatOptions::default());
    format!("{sql}\n")
}
