//! Memory of this process.

use std::fs;

/// Bytes in a MiB.
pub const MIB: f64 = (1 << 20) as f64;

/// Resident memory of this process in MiB; NaN where the system has no `/proc`.
pub fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    line.and_then(|kib| kib.trim().parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}
