//! A version is constructed that nobody published.

use model_experiments::experiments::Version;
use model_experiments::values::Timestamp;

fn at(version: Version, effective_at: Timestamp) -> Version {
    Version { effective_at, ..version }
}

fn main() {}
