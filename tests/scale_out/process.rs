//! Child processes that end with this process.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use crate::support::postgres::account::Account;
use crate::support::postgres::files::{fastest, temporary_directory};

/// Stops the program and removes its directory at the end of its standard input, which is that of
/// the process that holds the other end.
const WATCHDOG: &str = r#"
    exec 3<&0
    dir=$1; shift
    # A shell has what it starts in the background ignore this signal.
    env --default-signal=QUIT "$@" </dev/null 3<&- &
    program=$!
    read -r _ <&3
    kill -QUIT $program
    ( sleep 5; kill -KILL $program ) 2>/dev/null 3<&- &
    wait $program
    kill $!
    cd / && rm -rf "$dir"
"#;

/// A program that serves, with a directory of its own, both gone when this is dropped.
pub struct Service {
    directory: PathBuf,
    watchdog: Child,
    leash: Option<ChildStdin>,
}

impl Service {
    /// Starts a program as the account of the tests' servers, and returns when `is_ready`. Both
    /// are told of a new directory, into which `command` puts the program's files.
    pub fn start(
        command: impl FnOnce(&Path) -> io::Result<Vec<String>>,
        is_ready: impl Fn(&Path) -> bool,
    ) -> io::Result<Self> {
        let account = Account::for_server()?;
        let directory = temporary_directory(&fastest())?;
        account.own(&directory)?;
        let command = command(&directory)?;
        account.own_all(&directory)?;
        let mut watchdog = account
            .command("/bin/sh", &directory)
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&directory)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.join("stderr"))?)
            // Ctrl-C is for us: the watchdog must outlive it.
            .process_group(0)
            .spawn()?;
        let leash = watchdog.stdin.take();
        let service = Self { directory, watchdog, leash };
        let start = Instant::now();
        while !is_ready(&service.directory) {
            if start.elapsed() > Duration::from_secs(20) {
                return Err(io::Error::other(format!("it isn't ready: {}", service.log())));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(service)
    }

    /// What the program wrote to its standard error or to the file `log`.
    pub fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        read("stderr") + &read("log")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.leash.take());
        let _ = self.watchdog.wait();
    }
}

/// An ignored test of this binary, run in a process of its own.
pub struct Worker {
    process: Child,
    /// What it prints, read all along: it waits where nobody reads.
    printed: Option<JoinHandle<io::Result<String>>>,
}

impl Worker {
    /// Starts the test `name`, which reads `variables`. `launcher` is what starts the process, such
    /// as `unshare` with its arguments.
    pub fn start<V: AsRef<OsStr>>(
        launcher: &[&str],
        name: &str,
        variables: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Self {
        let this = std::env::current_exe().unwrap();
        let program = [launcher, &[this.to_str().unwrap()]].concat();
        let mut process = Command::new(program[0])
            .args(&program[1..])
            .args(["--exact", name, "--ignored", "--nocapture"])
            .envs(variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = process.stdout.take().unwrap();
        let printed = Some(spawn(|| io::read_to_string(stdout)));
        Self { process, printed }
    }

    /// Waits for its success, and returns what it [`report`]ed. Fails after `limit`.
    pub fn wait<R: DeserializeOwned>(mut self, limit: Duration) -> R {
        let start = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < limit, "the process is still there after {limit:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let printed = self.printed.take().unwrap().join().unwrap().unwrap();
        let report = printed.lines().find_map(|line| line.split_once(REPORT));
        let (_, report) = report.unwrap_or_else(|| panic!("it reported nothing: {printed}"));
        serde_json::from_str(report).unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a worker's report begins with.
const REPORT: &str = "report: ";

/// Tells a worker's result to the process that started it.
pub fn report(result: &impl Serialize) {
    println!("\n{REPORT}{}", serde_json::to_string(result).unwrap());
}
