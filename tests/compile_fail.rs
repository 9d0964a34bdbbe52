//! Misuse that the compiler refuses: a case to a file, beside what the compiler says of it.
//!
//! `TRYBUILD=overwrite` writes down anew what it says.

#[path = "compile_pass/correct_use.rs"]
#[expect(dead_code, reason = "it is there to be compiled")]
mod correct_use;

use std::process::Command;
use std::{env, fs};

/// The release whose words the cases expect: they change from one to the next.
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
        eprintln!("skipped: the cases expect the words of {RELEASE}x, not of {}", compiler.trim());
        return;
    }
    let files = fs::read_dir("tests/compile_fail").unwrap().count();
    assert!(files > 0, "there is no case");
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
