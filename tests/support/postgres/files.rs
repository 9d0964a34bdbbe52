//! Directories: temporary ones, the user's cache, and whole clusters copied between them.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::account::we_are_root;

/// Where temporary files outlive a restart, so that it isn't in memory.
pub const DISK: &str = "/var/tmp";

/// Where temporary files are written fastest.
pub fn fastest() -> PathBuf {
    if has_roomy_shared_memory() { "/dev/shm".into() } else { std::env::temp_dir() }
}

/// A new directory in `base` that only we may enter.
pub fn temporary_directory(base: &Path) -> io::Result<PathBuf> {
    for attempt in 0..100 {
        let directory = base.join(format!("model-experiments-{}-{attempt}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => return Ok(directory),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("no temporary directory can be made in {}", base.display())))
}

/// Whether there is a gibibyte of it at least: in a container it is often 64 MiB.
fn has_roomy_shared_memory() -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some("/dev/shm")
            && fields.next() == Some("tmpfs")
            && fields.next().is_some_and(|options| {
                let kibibytes = options.split(',').find_map(|option| {
                    option.strip_prefix("size=")?.strip_suffix('k')?.parse::<u64>().ok()
                });
                kibibytes.is_none_or(|kibibytes| kibibytes >= 1 << 20)
            })
    })
}

/// The user's cache folder for this crate, which nobody else may enter.
pub fn cache() -> io::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .ok_or_else(|| io::Error::other("neither XDG_CACHE_HOME nor HOME is set"))?
        .join("model-experiments");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&cache)?;
    if fs::metadata(&cache)?.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!("{} is writable by others", cache.display())));
    }
    Ok(cache)
}

/// The cache folder of programs that a server's account runs, which can't look into root's home.
pub fn cache_of_programs() -> io::Result<PathBuf> {
    if we_are_root()? { Ok("/var/cache/model-experiments".into()) } else { cache() }
}

/// Copies the directory `from` to `to`, which doesn't exist yet.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Copies the directory `from` to `to`, all at once for who looks at `to`.
pub fn save(from: &Path, to: &Path) -> io::Result<()> {
    let partial = to.with_extension(format!("partial-{}", std::process::id()));
    copy(from, &partial)?;
    publish(&partial, to)
}

/// Renames `partial` to `to`, unless another process was first.
pub fn publish(partial: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(partial, to) {
        Err(_) if to.is_dir() => fs::remove_dir_all(partial),
        renamed => renamed,
    }
}
