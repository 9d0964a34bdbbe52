//! The layout of `src/`: which rooms there are, that each imports only from rooms below it, and
//! that no files import each other in a circle.
//!
//! Imports are read from the sources, since the compiler accepts any. A `use` or a path that begins
//! with `crate::` leads to the file of the deepest module that it names. Unit tests may import from
//! anywhere.

#[path = "support/sources.rs"]
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};
use syn::{Item, UseTree};

use sources::is_of_tests;

/// The rooms, from the top. A room imports only from later lines.
const FLOORS: [&[&str]; 10] = [
    &["guide"],
    &["reports"],
    &["recording"],
    &["routing"],
    &["experiments"],
    &["database", "tables"],
    &["sql"],
    &["error"],
    &["values"],
    &["schema"],
];

/// A file of `src/` and the files that it imports from.
struct File {
    path: PathBuf,
    module: Vec<String>,
    imports: BTreeSet<usize>,
}

impl File {
    /// The room that the file stands in; `None` of `lib.rs`, which is above them all.
    fn room(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }

    fn floor(&self) -> Option<usize> {
        let room = self.room()?;
        let floor = FLOORS.iter().position(|rooms| rooms.contains(&room));
        Some(floor.unwrap_or_else(|| panic!("{room} is no room of the house")))
    }
}

/// The paths that a file names, each without its leading `crate`.
#[derive(Default)]
struct Imports(Vec<Vec<String>>);

impl Imports {
    /// A relative import would lead past the tests.
    fn insert_import(&mut self, path: Vec<String>) {
        let is_relative = ["super", "self"].contains(&path[0].as_str());
        assert!(!is_relative, "`use {}` must begin with `crate`", path.join("::"));
        self.insert(path);
    }

    fn insert(&mut self, mut path: Vec<String>) {
        if path.len() > 1 && path[0] == "crate" {
            path.remove(0);
            self.0.push(path);
        }
    }

    fn insert_tree(&mut self, tree: &UseTree, mut prefix: Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.insert_tree(&path.tree, prefix);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.insert_tree(tree, prefix.clone()));
            }
            UseTree::Name(name) => {
                prefix.push(name.ident.to_string());
                self.insert_import(prefix);
            }
            UseTree::Rename(rename) => {
                prefix.push(rename.ident.to_string());
                self.insert_import(prefix);
            }
            UseTree::Glob(_) => self.insert_import(prefix),
        }
    }
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_of_tests(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.insert_tree(&item.tree, Vec::new());
    }

    /// Who may import isn't what is imported.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files: Vec<_> = sources::files(&root)
        .iter()
        .map(|path| File {
            path: path.strip_prefix(&root).unwrap().to_owned(),
            module: sources::module(&root, path),
            imports: BTreeSet::new(),
        })
        .collect();
    let modules: BTreeMap<_, _> =
        files.iter().enumerate().map(|(at, file)| (file.module.clone(), at)).collect();
    for (at, file) in files.iter_mut().enumerate() {
        let source = fs::read_to_string(root.join(&file.path)).unwrap();
        let mut imports = Imports::default();
        imports.visit_file(&syn::parse_file(&source).unwrap());
        for path in imports.0 {
            let deepest = (0..=path.len()).rev().find_map(|depth| modules.get(&path[..depth]));
            file.imports.extend(deepest.filter(|imported| **imported != at));
        }
    }
    files
}

/// A circle of imports that begins and ends with the last file of `path`, if there is one.
fn circle(files: &[File], path: &mut Vec<usize>, done: &mut BTreeSet<usize>) -> Option<Vec<usize>> {
    let file = *path.last()?;
    for &next in &files[file].imports {
        if let Some(at) = path.iter().position(|earlier| *earlier == next) {
            return Some(path[at..].to_vec());
        }
        if !done.contains(&next) {
            path.push(next);
            if let Some(circle) = circle(files, path, done) {
                return Some(circle);
            }
            path.pop();
        }
    }
    done.insert(file);
    None
}

#[test]
fn a_room_imports_only_from_rooms_below_it() {
    let files = files();
    let mut upwards = Vec::new();
    let mut downwards = 0;
    for file in &files {
        for imported in file.imports.iter().map(|at| &files[*at]) {
            let is_allowed = match (file.floor(), imported.floor()) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(_), Some(_)) if file.room() == imported.room() => true,
                (Some(floor), Some(below)) => floor < below,
            };
            if !is_allowed {
                upwards.push(format!("{} <- {}", imported.path.display(), file.path.display()));
            }
            downwards += usize::from(is_allowed);
        }
    }
    assert_eq!(upwards, [""; 0]);
    assert!(downwards > 200, "{downwards} imports were read");
    let rooms: BTreeSet<_> = files.iter().filter_map(File::room).collect();
    let floors: BTreeSet<_> = FLOORS.iter().copied().flatten().copied().collect();
    assert_eq!(rooms, floors);
}

#[test]
fn no_files_import_each_other() {
    let files = files();
    let mut done = BTreeSet::new();
    for at in 0..files.len() {
        let circle = circle(&files, &mut vec![at], &mut done);
        let circle: Vec<_> = circle
            .unwrap_or_default()
            .iter()
            .map(|at| files[*at].path.display().to_string())
            .collect();
        assert_eq!(circle, [""; 0], "files that import each other");
    }
    assert_eq!(done.len(), files.len());
    assert!(files.len() > 60, "{} files were read", files.len());
}
