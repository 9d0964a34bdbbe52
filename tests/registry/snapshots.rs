//! The SQL of every query, as a reviewer reads it.

use expect_test::expect_file;
use sqlformat::{FormatOptions, QueryParams};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{all, seed};

/// Where the SQL of each query is kept. `UPDATE_EXPECT=1 cargo test --lib` writes it anew.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/queries")
}

#[test]
fn the_sql_of_every_query_is_as_it_was_reviewed() {
    let mut files = BTreeSet::new();
    for query in all() {
        let (sql, name) = (&query.sql, query.name.replace("::", ".").replace(' ', "_"));
        if query.name.ends_with(seed::LONG) {
            continue;
        }
        let formatted = sqlformat::format(sql, &QueryParams::None, &FormatOptions::default());
        let file = directory().join(format!("{name}.sql"));
        expect_file![file.clone()].assert_eq(&format!("{formatted}\n"));
        assert!(files.insert(file), "{name} is registered twice");
    }
    let kept: BTreeSet<_> = super::sources(&directory()).into_iter().collect();
    assert_eq!(kept, files, "a query that is gone, or one that is new");
}
