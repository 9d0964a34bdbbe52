//! Rebuilds the crate when a migration is added: the compiler doesn't know that they are embedded.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
