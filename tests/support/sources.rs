//! Files of the repository, and what of a source file is for tests alone.

use std::fs;
use std::path::{Path, PathBuf};
use syn::{Attribute, Item};

/// The files below `directory`, sorted.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The module of a file below `root`: `["routing", "cache"]` of `routing/cache/mod.rs`.
pub fn module(root: &Path, path: &Path) -> Vec<String> {
    let path = path.strip_prefix(root).unwrap().with_extension("");
    let mut module: Vec<_> = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if ["mod", "lib"].contains(&module.last().unwrap().as_str()) {
        module.pop();
    }
    module
}

/// Whether an item has `#[cfg(test)]` or `#[cfg(doctest)]`.
pub fn is_of_tests(item: &Item) -> bool {
    attributes(item).iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|cfg| cfg == "test" || cfg == "doctest")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(syn::ItemMod { attrs, .. })
        | Item::Fn(syn::ItemFn { attrs, .. })
        | Item::Use(syn::ItemUse { attrs, .. })
        | Item::Struct(syn::ItemStruct { attrs, .. })
        | Item::Trait(syn::ItemTrait { attrs, .. })
        | Item::Impl(syn::ItemImpl { attrs, .. })
        | Item::ExternCrate(syn::ItemExternCrate { attrs, .. }) => attrs,
        _ => &[],
    }
}
