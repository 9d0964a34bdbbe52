//! The migrations in the repository, which `diesel migration run` applies.

use std::path::Path;

/// A migration: its name, what it does and what reverts it.
pub struct Migration {
    pub name: String,
    pub up: String,
    pub down: String,
}

/// The migrations in the order in which they are applied.
pub fn migrations() -> Vec<Migration> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut migrations: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let read = |file| std::fs::read_to_string(entry.path().join(file)).unwrap();
            let name = entry.file_name().into_string().unwrap();
            Migration { name, up: read("up.sql"), down: read("down.sql") }
        })
        .collect();
    migrations.sort_by(|a, b| a.name.cmp(&b.name));
    migrations
}
