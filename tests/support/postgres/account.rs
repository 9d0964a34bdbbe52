//! Who runs the server: us, or an ordinary user when we are root, as whom PostgreSQL refuses to
//! run.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The user and group to become, if it isn't ourselves.
#[derive(Clone, Copy)]
pub struct Account(Option<(u32, u32)>);

impl Account {
    /// Who is to run a server that we start.
    pub fn for_server() -> io::Result<Self> {
        if !we_are_root()? {
            return Ok(Self(None));
        }
        let users = fs::read_to_string("/etc/passwd")?;
        let find = |name: &str| {
            users.lines().find_map(|line| {
                let mut fields = line.split(':');
                (fields.next()? == name).then_some(())?;
                Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
            })
        };
        find("postgres").or_else(|| find("nobody")).map(|ids| Self(Some(ids))).ok_or_else(|| {
            io::Error::other(
                "PostgreSQL can't run as root, and there is no user postgres or nobody",
            )
        })
    }

    /// A command run by the account, without a terminal and without the caller's PG variables.
    pub fn command(self, program: impl AsRef<OsStr>, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(directory).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        if let Some((user, group)) = self.0 {
            command.uid(user).gid(group);
        }
        command
    }

    /// Makes `path` the account's, and nobody else's.
    pub fn own(self, path: &Path) -> io::Result<()> {
        if let Some((user, group)) = self.0 {
            chown(path, Some(user), Some(group))?;
        }
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    /// Makes everything in `directory` the account's, and nobody else's.
    pub fn own_all(self, directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            self.own(&path)?;
            if path.is_dir() {
                self.own_all(&path)?;
            }
        }
        Ok(())
    }
}

/// Whether we are root, by the word of `id`.
pub fn we_are_root() -> io::Result<bool> {
    Ok(Command::new("id").arg("-u").output()?.stdout.trim_ascii() == b"0")
}
