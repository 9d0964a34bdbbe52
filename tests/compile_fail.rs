//! Misuse that the compiler refuses: one case per file, with the compiler's message beside it.
//!
//! `TRYBUILD=overwrite` updates the messages.

#[path = "compile_pass/correct_use.rs"]
#[expect(dead_code, reason = "it only has to compile")]
mod correct_use;

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// The release whose messages are expected. Other releases word them differently.
const RELEASE: &str = "rustc 1.95.";

fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn misuse_does_not_compile() {
    let compiler = compiler();
    if !compiler.starts_with(RELEASE) {
        assert!(env::var_os("CI").is_none(), "the messages are those of {RELEASE}x");
        eprintln!("skipped: the messages are those of {RELEASE}x, not of {}", compiler.trim());
        return;
    }
    let is_case = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
    let files = fs::read_dir("tests/compile_fail").unwrap().map(|entry| entry.unwrap().path());
    assert!(files.filter(|path| is_case(path)).count() > 20);
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
