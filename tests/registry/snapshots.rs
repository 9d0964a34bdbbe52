//! The SQL of every query, as a reviewer reads it. `UPDATE_EXPECT=1 cargo test --lib` writes it
//! anew.

use expect_test::expect_file;
use std::collections::BTreeSet;

use super::support::queries;
use super::{all, seed};

#[test]
fn the_sql_of_every_query_is_as_it_was_reviewed() {
    let mut files = BTreeSet::new();
    for query in all() {
        let (sql, name) = (&query.sql, query.name.replace("::", ".").replace(' ', "_"));
        if query.name.ends_with(seed::LONG) {
            continue;
        }
        let file = queries::directory().join(format!("{name}.sql"));
        expect_file![file.clone()].assert_eq(&queries::formatted(sql));
        assert!(files.insert(file), "{name} is registered twice");
    }
    let kept: BTreeSet<_> = super::sources::files(&queries::directory()).into_iter().collect();
    assert_eq!(kept, files, "a query that is gone, or one that is new");
}
