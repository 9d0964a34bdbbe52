//! What recorders say of records for which nobody waits.

use model_experiments::values::UsageId;
use std::collections::HashSet;
use std::io::{self, Write};
use std::mem;
use std::sync::Mutex;
use tracing::Level;

/// The errors that were logged.
static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

/// Keeps the errors that this process logs from now on.
pub fn keep() {
    tracing_subscriber::fmt()
        .with_max_level(Level::ERROR)
        .with_ansi(false)
        .with_writer(|| Log)
        .init();
}

/// The usages that were said to be lost, which are forgotten here.
pub fn take_lost() -> HashSet<UsageId> {
    let text = String::from_utf8(mem::take(&mut *LOGGED.lock().unwrap())).unwrap();
    let usage = |line: &str| line.split("usage=").nth(1)?.get(..36)?.parse().ok();
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
