//! The log, which reports lost records whose receipt nobody awaits.

use model_experiments::values::UsageId;
use std::collections::HashSet;
use std::io::{self, Write};
use std::mem;
use std::sync::Mutex;
use tracing::Level;

/// The logged errors.
static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

/// Keeps the errors that this process logs from now on.
pub fn keep_errors() {
    tracing_subscriber::fmt()
        .with_max_level(Level::ERROR)
        .with_ansi(false)
        .with_writer(|| Log)
        .init();
}

/// The usages that were logged as lost. Empties the log.
pub fn take_lost() -> HashSet<UsageId> {
    let text = String::from_utf8(mem::take(&mut *LOGGED.lock().unwrap())).unwrap();
    let usage = |line: &str| {
        let (_, rest) = line.split_once("usage=")?;
        rest.get(..36)?.parse().ok()
    };
    text.lines().filter_map(usage).collect()
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
