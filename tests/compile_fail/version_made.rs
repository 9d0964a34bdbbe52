//! A version is made that nobody published.

use chrono::{DateTime, Utc};
use model_experiments::experiments::Version;

fn at(version: Version, effective_at: DateTime<Utc>) -> Version {
    Version { effective_at, ..version }
}

fn main() {}
