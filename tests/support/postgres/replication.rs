//! Streaming replication: a primary that standbys can follow, and standbys.

use std::fs;
use std::io;
use std::path::Path;

use super::{Binaries, Server, files, succeeded};

/// What a primary and its standbys need in place of the settings of other servers.
const SETTINGS: [&str; 5] = [
    "wal_level=replica",
    "max_wal_senders=8",
    "synchronous_commit=on",
    "wal_retrieve_retry_interval=100ms",
    "wal_receiver_status_interval=1s",
];

impl Server {
    /// Starts a server on a copy of the cluster in `template` that standbys can follow.
    pub fn primary(binaries: &Binaries, template: &Path, settings: &[&str]) -> io::Result<Self> {
        Self::start_with(binaries, Some(template), |_| Ok(with(settings)))
    }

    /// Starts a standby that follows `primary`.
    pub fn standby(binaries: &Binaries, primary: &Self, settings: &[&str]) -> io::Result<Self> {
        let copy = |account: super::Account, directory: &Path| {
            let copy = account
                .command(binaries.directory().join("pg_basebackup"), directory)
                .args(["-D", "data", "-d", &primary.conninfo()])
                .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
                .output()?;
            succeeded("pg_basebackup", &copy)
        };
        Self::start_below(&files::fastest(), binaries, copy, |_| Ok(with(settings)))
    }

    /// Makes a standby a primary, and returns when it takes writes.
    pub fn promote(&self, binaries: &Binaries) -> io::Result<()> {
        let promote = self
            .account
            .command(binaries.directory().join("pg_ctl"), &self.directory)
            .args(["promote", "-w", "-D", "data"])
            .output()?;
        succeeded("pg_ctl", &promote)
    }

    /// Starts a stopped server again, as a standby that follows `primary`.
    #[allow(dead_code, reason = "the suite demotes none")]
    pub fn restart_as_standby_of(&mut self, primary: &Self) -> io::Result<()> {
        let data = self.directory.join("data");
        let setting = format!("primary_conninfo = '{}'\n", primary.conninfo());
        fs::write(data.join("postgresql.auto.conf"), setting)?;
        fs::write(data.join("standby.signal"), "")?;
        self.account.own_all(&data)?;
        self.restart()
    }

    /// How another server of the same account connects.
    fn conninfo(&self) -> String {
        format!("host={} port={} user=postgres", self.directory.display(), self.port)
    }
}

fn with(settings: &[&str]) -> Vec<String> {
    SETTINGS.iter().chain(settings).map(|setting| (*setting).to_owned()).collect()
}
