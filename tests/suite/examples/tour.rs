//! The example `tour`, run as its reader runs it.

use crate::support::fixtures::{Counts, Recorded, counts, number, recorded};
use crate::support::{TestDatabase, example};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use uuid::Uuid;

const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens";

#[tokio::test]
async fn runs_again_and_again_on_the_users_database() {
    let db = TestDatabase::new().await;
    let mut models = Vec::new();
    for _ in 0..2 {
        let output = run_on(&db, &["--requests", "500"]).await;
        let stdout = succeeded(&output);
        assert!(stdout.contains("500 synthetic requests"), "{stdout}");
        assert!(!stdout.contains("Started PostgreSQL"), "{stdout}");
        assert!(stdout.contains("psql \"$DATABASE_URL\""), "{stdout}");
        assert!(stdout.contains("Recorded 1000 rows"), "{stdout}");
        let rows: Vec<_> = stdout.lines().filter(|line| line.contains("preview-rc")).collect();
        let count = |label: &str| rows.iter().filter(|row| row.contains(label)).count();
        // Two versions of each variant, and the line of the proof.
        assert_eq!((count("control"), count("candidate")), (2, 3), "{stdout}");
        let proved = proof(&stdout).split(' ').nth(2).unwrap();
        assert!(proved.parse::<u32>().unwrap() > 0, "{stdout}");
        models.extend(
            stdout
                .split_whitespace()
                .find(|word| word.starts_with("tour/preview-"))
                .map(str::to_owned),
        );
    }
    let [first, second] = &models[..] else { panic!("{models:?}") };
    assert_ne!(first, second);

    let conn = &mut db.connect().await;
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 2, variants: 4, versions: 8, usages: 1_000, requests: 1_000 }
    );
    for (sql, expected) in [
        ("SELECT count(*) AS number FROM model_experiment WHERE status = 'completed'", 2),
        (
            "SELECT count(*) AS number FROM microdollar_usage u JOIN model_experiment_request r \
             ON r.usage_id = u.id AND r.created_at = u.created_at",
            1_000,
        ),
        (
            "SELECT count(DISTINCT client_request_id) AS number FROM model_experiment_request \
             WHERE length(system_prompt_sha256) = 64 AND length(request_body_sha256) = 64",
            1_000,
        ),
        // 300 users take turns, so the first 200 come twice.
        ("SELECT count(DISTINCT kilo_user_id) AS number FROM microdollar_usage", 300),
        (
            "SELECT count(*) AS number FROM microdollar_usage WHERE has_error <> (output_tokens = 0)",
            0,
        ),
        // What was billed agrees with the version that the request is attributed to.
        (
            "SELECT count(*) AS number FROM microdollar_usage u \
             JOIN model_experiment_request r ON r.usage_id = u.id \
             JOIN model_experiment_variant_version v ON v.id = r.variant_version_id \
             WHERE u.model = v.upstream ->> 'internal_id' AND u.requested_model LIKE 'tour/preview-%'",
            1_000,
        ),
    ] {
        assert_eq!(number(conn, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn replays_a_trace_in_the_order_of_time() {
    let mut lines = vec![HEADER.to_owned()];
    // Later lines are earlier.
    for second in (0..60).rev() {
        lines.push(format!(
            "2023-11-16 18:15:{second:02}.6805900,{},{}",
            1_000 + second,
            second % 20
        ));
    }
    let trace = TraceFile::new(lines.join("\n"));
    let db = TestDatabase::new().await;
    let output = run_on(&db, &["--trace", trace.path_str()]).await;
    let stdout = succeeded(&output);
    assert!(stdout.starts_with("Read 60 requests of "), "{stdout}");
    proof(&stdout);

    let conn = &mut db.connect().await;
    assert_eq!(recorded(conn).await, Recorded::both(60));
    for (sql, expected) in [
        ("SELECT sum(input_tokens)::bigint AS number FROM microdollar_usage", 61_770),
        ("SELECT sum(output_tokens)::bigint AS number FROM microdollar_usage", 570),
        ("SELECT count(*) AS number FROM microdollar_usage WHERE has_error", 3),
        (
            "SELECT u.input_tokens AS number FROM microdollar_usage u JOIN model_experiment_request r \
             ON r.usage_id = u.id WHERE r.client_request_id LIKE '%-0'",
            1_000,
        ),
    ] {
        assert_eq!(number(conn, sql).await, expected, "{sql}");
    }

    // The first by time, not by line.
    let db = TestDatabase::new().await;
    succeeded(&run_on(&db, &["--trace", trace.path_str(), "--requests", "40"]).await);
    let sum = "SELECT sum(input_tokens)::bigint AS number FROM microdollar_usage";
    assert_eq!(number(&mut db.connect().await, sum).await, 40_780);
}

#[tokio::test]
async fn stops_at_a_bad_line_before_anything_is_recorded() {
    let good = "2023-11-16 18:15:46.6805900,374,44";
    let whole = "GeneratedTokens must be a whole number";
    let db = TestDatabase::new().await;
    for (text, line, reason) in [
        (format!("{HEADER}\n{good}\n2023-11-16 18:15:46,374,44.5\n{good}"), 3, whole),
        (format!("{HEADER}\n{good}\n2023-11-16 18:15:46,374,\n"), 3, whole),
        (format!("{HEADER}\r\n{good}\r\n\r\n2023-11-16 18:15:46,374,-1\r\n"), 4, whole),
        (format!("{HEADER}\n2023-11-16 18:15:46,4294967296,44\n"), 2, "ContextTokens is too large"),
        (
            format!("{HEADER}\n{good}\n16/11/2023 18:15,374,44\n"),
            3,
            "TIMESTAMP must be like 2023-11-16 18:15:46.6805900",
        ),
        (format!("{HEADER}\n2023-11-16 18:15:46,374\n"), 2, "has 2 fields, and the header 3"),
        (
            "TIMESTAMP,ContextTokens\n2023-11-16 18:15:46,374\n".to_owned(),
            1,
            "the header has no column GeneratedTokens",
        ),
        (format!("{good}\n"), 1, "the header has no column TIMESTAMP"),
        (format!("{HEADER}\n"), 1, "no request follows the header"),
        (String::new(), 1, "the header has no column TIMESTAMP"),
    ] {
        let trace = TraceFile::new(&text);
        let output = run_on(&db, &["--trace", trace.path_str()]).await;
        assert_eq!(failed(&output), format!("error: {}:{line}: {reason}\n", trace.path_str()));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    }
    assert_eq!(counts(&mut db.connect().await).await, Counts::default());
}

#[test]
fn says_why_a_trace_or_a_database_can_not_be_used() {
    let output = tour(&["--trace", "no-such-trace.csv"]).output().unwrap();
    let reason = "No such file or directory (os error 2)";
    assert_eq!(failed(&output), format!("error: no-such-trace.csv: {reason}\n"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");

    for (bytes, line) in [(&b"\xff"[..], 1), (b"TIMESTAMP\n\n2023\xe9", 3)] {
        let trace = TraceFile::new(bytes);
        let output = tour(&["--trace", trace.path_str()]).output().unwrap();
        let expected = format!("error: {}:{line}: is not UTF-8 text\n", trace.path_str());
        assert_eq!(failed(&output), expected);
    }

    let output = tour(&[]).env("DATABASE_URL", "mysql://localhost/x").output().unwrap();
    let stderr = failed(&output);
    assert!(stderr.starts_with("error: the database can't be reached as configured"), "{stderr}");
}

#[test]
fn a_proof_about_no_request_is_an_error() {
    // Of a single request, none comes before the swap.
    let stderr = failed(&tour(&["--requests", "1"]).output().unwrap());
    assert!(stderr.starts_with("error: candidate served no request before"), "{stderr}");
}

#[test]
fn brings_a_server_of_its_own_and_takes_it_away() {
    let output = tour(&["--requests", "50"]).output().unwrap();
    let stdout = succeeded(&output);
    proof(&stdout);
    assert!(!stdout.contains("psql"), "{stdout}");
    let directory = stdout.lines().find_map(started_in).unwrap();
    assert!(!directory.exists(), "{} is left", directory.display());
}

#[test]
fn its_server_ends_even_when_it_is_killed() {
    let mut child = tour(&["--requests", "1000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let directory = lines.find_map(|line| started_in(&line)).unwrap();
    assert!(lines.any(|line| line.contains("is an experiment now")));
    assert!(directory.exists());
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None);

    let start = Instant::now();
    while directory.exists() {
        assert!(start.elapsed() < Duration::from_secs(30), "{} is left", directory.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The directory that the tour says its server is in.
fn started_in(line: &str) -> Option<PathBuf> {
    let (version, directory) = line.strip_prefix("Started PostgreSQL ")?.split_once(" in ")?;
    assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{line}");
    Some(directory.into())
}

fn proof(stdout: &str) -> &str {
    let proof = stdout.lines().find(|line| line.starts_with("Proved: all "));
    proof.unwrap_or_else(|| panic!("nothing is proved: {stdout}"))
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

async fn run_on(db: &TestDatabase, arguments: &[&str]) -> Output {
    let (url, arguments) = (db.url(), arguments.join("\n"));
    let run = move || {
        let arguments: Vec<_> = arguments.split('\n').collect();
        tour(&arguments).env("DATABASE_URL", url).output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// The tour with these arguments and no `DATABASE_URL`.
fn tour(arguments: &[&str]) -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(BUILT.get_or_init(|| example::build("tour")));
    command.args(arguments).env_remove("DATABASE_URL").stdin(Stdio::null());
    command
}

/// A trace in a directory of its own, which is removed with this value.
struct TraceFile(PathBuf);

impl TraceFile {
    fn new(content: impl AsRef<[u8]>) -> Self {
        let directory =
            std::env::temp_dir().join(format!("model-experiments-trace-{}", Uuid::now_v7()));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("trace.csv"), content).unwrap();
        Self(directory.join("trace.csv"))
    }

    fn path_str(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TraceFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}
