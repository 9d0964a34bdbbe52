//! How measured times are spread.

use std::fmt;
use std::time::Duration;

#[derive(Default)]
pub struct Spread(Vec<Duration>);

impl Spread {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
        let (least, median, p99, most) = (at(0), at(50), at(99), at(100));
        write!(
            f,
            "{least:.2?} at least, median {median:.2?}, p99 {p99:.2?}, {most:.2?} at most, of {}",
            sorted.len()
        )
    }
}
