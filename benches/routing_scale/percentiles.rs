//! Percentiles of measured times.

use std::fmt;
use std::time::Duration;

/// Measured times, displayed as their percentiles.
#[derive(Default)]
pub struct Percentiles(Vec<Duration>);

impl Percentiles {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
        let (min, median, p99, max) = (at(0), at(50), at(99), at(100));
        let count = sorted.len();
        write!(f, "min {min:.2?}, median {median:.2?}, p99 {p99:.2?}, max {max:.2?}, n = {count}")
    }
}
