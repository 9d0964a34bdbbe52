//! An instant that is finer than a microsecond, as the instant of a usage.

use chrono::{DateTime, Utc};
use model_experiments::recording::Usage;

fn usage(created_at: DateTime<Utc>) -> Usage {
    Usage { created_at, ..Usage::new("user-7") }
}

fn main() {}
