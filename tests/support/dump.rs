//! Dumping and restoring tests' databases with PostgreSQL's own programs.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::postgres::Binaries;

/// What `pg_dump` makes of a database; `None`, with the reason printed, where there is no `pg_dump`
/// that can read the server.
pub fn dump(url: &str, options: &[&str]) -> Option<String> {
    let output = Command::new(program("pg_dump")).args(options).arg("-d").arg(url).output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => return skip("there is no pg_dump"),
        output => output.unwrap(),
    };
    let errors = String::from_utf8(output.stderr).unwrap();
    if errors.contains("server version mismatch") {
        return skip(&errors);
    }
    assert!(output.status.success(), "{errors}");
    // Some versions fence a dump with a random word, which each dump has another of.
    let text = String::from_utf8(output.stdout).unwrap();
    let is_fence = |line: &&str| line.starts_with("\\restrict") || line.starts_with("\\unrestrict");
    Some(text.lines().filter(|line| !is_fence(line)).map(|line| format!("{line}\n")).collect())
}

/// What `pg_dump` makes of the schema, but for the table that says which migrations were applied.
pub fn schema(url: &str) -> Option<String> {
    dump(url, &["--schema-only", "--exclude-table=__diesel_schema_migrations"])
}

/// Feeds a dump to `psql`, which stops at the first error.
pub fn restore(url: &str, dump: &str) -> Option<()> {
    let psql = Command::new(program("psql"))
        .args(["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--output=/dev/null", "-d", url])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut psql = match psql {
        Err(error) if error.kind() == ErrorKind::NotFound => return skip("there is no psql"),
        psql => psql.unwrap(),
    };
    psql.stdin.take().unwrap().write_all(dump.as_bytes()).unwrap();
    let output = psql.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    Some(())
}

/// The program beside the server's, else the one on the `PATH`.
fn program(name: &str) -> PathBuf {
    let binaries = Binaries::find(|message| eprintln!("{message}")).unwrap();
    let beside = binaries.directory().join(name);
    if beside.is_file() { beside } else { name.into() }
}

fn skip<T>(reason: &str) -> Option<T> {
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    eprintln!("skipped: {reason}");
    None
}
