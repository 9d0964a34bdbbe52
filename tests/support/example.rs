//! The examples, run as their readers run them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the example beside this test, since a test of one target alone doesn't: the program
/// itself, so that to kill the child is to kill the example.
pub fn build(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let directory = test.parent().and_then(Path::parent).unwrap();
    let profile = match directory.file_name().and_then(|name| name.to_str()).unwrap() {
        "debug" => "dev",
        profile => profile,
    };
    let mut build = Command::new(env!("CARGO"));
    // What cargo tells tests of their package has dependencies that look at it be built anew.
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"].iter().any(|of| name.starts_with(of)) {
            build.env_remove(&variable);
        }
    }
    let build = build
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--example", name, "--profile", profile, "--target-dir"])
        .arg(directory.parent().unwrap())
        .output()
        .unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    directory.join("examples").join(name)
}
