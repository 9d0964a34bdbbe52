//! A private PostgreSQL server: on a Unix socket, in a temporary directory, gone with this process.
//!
//! For the tests and the examples alike, so it uses nothing but std.

pub mod account;
mod binaries;
pub mod files;
mod replication;

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Output, Stdio};
use std::time::{Duration, Instant};

use account::Account;
pub use binaries::Binaries;
pub use files::cache;

/// The shell keeps the server on a leash, our end of its standard input: when this process ends,
/// however it ends, it reads the end of file, stops the server and removes the directory.
///
/// Every process of the server holds the pipe that the log goes through. Once it has no writer, all
/// are gone.
const WATCHDOG: &str = r#"
    exec 3<&0
    bin=$1 dir=$2; shift 2
    mkfifo "$dir/pipe"
    start() {
        cat <"$dir/pipe" >>"$dir/log" 3<&- &
        log=$!
        "$bin/postgres" -D "$dir/data" -k "$dir" "$@" </dev/null >"$dir/pipe" 2>&1 3<&- &
        server=$!
    }
    start "$@"
    while read -r order <&3; do
        case $order in
        kill)
            kill -STOP $server
            kill -KILL $(pgrep -P $server) $server
            wait $server $log
            server=
            rm "$dir/data/postmaster.pid" ;;
        stop)
            kill -INT $server
            wait $server $log
            server= ;;
        start)
            start "$@" ;;
        freeze)
            kill -STOP $server $(pgrep -P $server)
            touch "$dir/frozen" ;;
        thaw)
            rm "$dir/frozen"
            kill -CONT $server $(pgrep -P $server) ;;
        esac
    done
    kill -CONT $server $(pgrep -P $server) 2>/dev/null
    kill -QUIT $server 2>/dev/null
    wait $server
    cd / && rm -rf "$dir"
"#;

/// What a test or a demonstration needs, and a server that holds real data must not have.
const SETTINGS: [&str; 8] = [
    "listen_addresses=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_connections=200",
    "shared_buffers=128MB",
];

/// What one needs instead that is to have what it acknowledged after a crash.
const DURABLE: [&str; 3] = ["fsync=on", "synchronous_commit=on", "full_page_writes=on"];

/// A running server.
pub struct Server {
    account: Account,
    directory: PathBuf,
    port: u16,
    watchdog: Child,
    leash: Option<ChildStdin>,
}

impl Server {
    /// Starts a server with a new, empty cluster.
    pub fn start(binaries: &Binaries) -> io::Result<Self> {
        Self::start_with(binaries, None, |_| Ok(Vec::new()))
    }

    /// Starts a server on a copy of the cluster in `template`, or on a new one. `configure` may put
    /// files beside the cluster, and returns further settings.
    pub fn start_with(
        binaries: &Binaries,
        template: Option<&Path>,
        configure: impl FnOnce(&Path) -> io::Result<Vec<String>>,
    ) -> io::Result<Self> {
        Self::start_below(&files::fastest(), binaries, cluster(binaries, template), configure)
    }

    /// Starts a server with a new, empty cluster on a disk, which has after a crash what it
    /// acknowledged before.
    pub fn durable(binaries: &Binaries, settings: &[&str]) -> io::Result<Self> {
        let settings =
            DURABLE.iter().chain(settings).map(|setting| (*setting).to_owned()).collect();
        let cluster = cluster(binaries, None);
        Self::start_below(files::DISK.as_ref(), binaries, cluster, |_| Ok(settings))
    }

    fn start_below(
        base: &Path,
        binaries: &Binaries,
        cluster: impl FnOnce(Account, &Path) -> io::Result<()>,
        configure: impl FnOnce(&Path) -> io::Result<Vec<String>>,
    ) -> io::Result<Self> {
        let directory = files::temporary_directory(base)?;
        Self::start_in(binaries, &directory, cluster, configure).inspect_err(|_| {
            let _ = fs::remove_dir_all(&directory);
        })
    }

    fn start_in(
        binaries: &Binaries,
        directory: &Path,
        cluster: impl FnOnce(Account, &Path) -> io::Result<()>,
        configure: impl FnOnce(&Path) -> io::Result<Vec<String>>,
    ) -> io::Result<Self> {
        let account = Account::for_server()?;
        account.own(directory)?;
        cluster(account, directory)?;
        let settings = configure(directory)?;
        account.own_all(directory)?;
        let port = settings
            .iter()
            .find_map(|setting| setting.strip_prefix("port=")?.parse().ok())
            .unwrap_or(5432);
        let mut watchdog = account
            .command("/bin/sh", directory)
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(binaries.directory())
            .arg(directory)
            .args(SETTINGS.into_iter().flat_map(|setting| ["-c", setting]))
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for us: the watchdog must outlive it.
            .process_group(0)
            .spawn()?;
        let leash = watchdog.stdin.take();
        let server = Self { account, directory: directory.to_owned(), port, watchdog, leash };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// The URL of a database on this server, over the socket.
    pub fn url(&self, database: &str) -> String {
        let socket = self.directory.display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{socket}:{}/{database}", self.port)
    }

    /// Where the socket, the cluster and the log are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Kills every process of the server, as a crash of the machine would, and returns when all are
    /// gone.
    pub fn kill(&mut self) -> io::Result<()> {
        self.order("kill")?;
        self.wait_until("be killed", || !self.pid_file().exists())
    }

    /// Starts a killed server again, and returns when it has recovered.
    pub fn restart(&mut self) -> io::Result<()> {
        self.order("start")?;
        self.wait_until("start again", || self.is_ready())
    }

    /// Stops the server in good order. [`restart`](Self::restart) starts it again.
    pub fn stop(&mut self) -> io::Result<()> {
        self.order("stop")?;
        self.wait_until("stop", || !self.pid_file().exists())
    }

    /// Stops the server in good order and copies its cluster to `to`, to start others from.
    pub fn save(mut self, to: &Path) -> io::Result<()> {
        self.stop()?;
        files::save(&self.directory.join("data"), to)
    }

    /// Stops every process where it is: the server accepts connections and says nothing.
    #[allow(dead_code, reason = "the suite freezes none")]
    pub fn freeze(&mut self) -> io::Result<()> {
        self.order("freeze")?;
        self.wait_until("freeze", || self.directory.join("frozen").exists())
    }

    /// Lets the processes of a frozen server go on.
    #[allow(dead_code, reason = "the suite freezes none")]
    pub fn thaw(&mut self) -> io::Result<()> {
        self.order("thaw")
    }

    fn order(&mut self, order: &str) -> io::Result<()> {
        let leash = self.leash.as_mut().ok_or_else(|| io::Error::other("the server has ended"))?;
        writeln!(leash, "{order}")
    }

    fn wait_until_ready(&self) -> io::Result<()> {
        self.wait_until("start", || self.is_ready() || self.log().contains("FATAL"))?;
        if self.is_ready() {
            Ok(())
        } else {
            Err(io::Error::other(format!("PostgreSQL did not start:\n{}", self.log())))
        }
    }

    fn wait_until(&self, what: &str, holds: impl Fn() -> bool) -> io::Result<()> {
        let start = Instant::now();
        while !holds() {
            if start.elapsed() > Duration::from_secs(60) {
                let log = self.log();
                return Err(io::Error::other(format!("PostgreSQL did not {what}:\n{log}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Line 8 of postmaster.pid is what `pg_ctl -w` waits for.
    fn is_ready(&self) -> bool {
        fs::read_to_string(self.pid_file()).is_ok_and(|pid| {
            let line = pid.lines().nth(7).unwrap_or_default();
            ["ready", "standby"].contains(&line.trim())
        })
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join("data/postmaster.pid")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.leash.take());
        let _ = self.watchdog.wait();
    }
}

/// Makes the cluster of a server in a directory: a copy of `template`, or a new one.
fn cluster(
    binaries: &Binaries,
    template: Option<&Path>,
) -> impl FnOnce(Account, &Path) -> io::Result<()> {
    move |account, directory| match template {
        Some(template) => files::copy(template, &directory.join("data")),
        None => init(binaries, account, directory),
    }
}

fn init(binaries: &Binaries, account: Account, directory: &Path) -> io::Result<()> {
    let init = account
        .command(binaries.directory().join("initdb"), directory)
        .args(["-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8"])
        .args(["--no-locale", "--no-sync"])
        .output()?;
    succeeded("initdb", &init)
}

/// The error of a program that failed, with what it said.
fn succeeded(program: &str, output: &Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program}: {errors}")))
}
