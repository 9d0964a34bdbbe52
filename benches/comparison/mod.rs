//! Comparison of the crate with raw code that does the same: times and their ratio.

use criterion::Criterion;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// The two sides of a comparison.
const CRATE: &str = "crate";
const RAW: &str = "raw";

/// The measurements of one run, made by criterion.
pub struct Comparison {
    criterion: Criterion,
    start: SystemTime,
    names: Vec<&'static str>,
}

impl Comparison {
    pub fn new() -> Self {
        let criterion = Criterion::default().configure_from_args();
        Self { criterion, start: SystemTime::now(), names: Vec::new() }
    }

    /// Measures `ours` and then `raw`.
    pub fn add<O, R>(
        &mut self,
        name: &'static str,
        mut ours: impl FnMut() -> O,
        raw: impl FnMut() -> R,
    ) {
        let mut group = self.criterion.benchmark_group(name);
        group.bench_function(CRATE, |bencher| bencher.iter(&mut ours));
        group.finish();
        self.add_raw(name, raw);
    }

    /// Measures `raw`, to which nothing in the crate corresponds.
    pub fn add_raw<R>(&mut self, name: &'static str, mut raw: impl FnMut() -> R) {
        let mut group = self.criterion.benchmark_group(name);
        group.bench_function(RAW, |bencher| bencher.iter(&mut raw));
        group.finish();
        self.names.push(name);
    }

    /// Prints the medians of this run and their ratios.
    pub fn print(&self) {
        println!("{:24} {:>14} {:>14} {:>6}", "median, ns", CRATE, RAW, "ratio");
        for name in &self.names {
            let (ours, raw) = (self.median(name, CRATE), self.median(name, RAW));
            let ratio = ours.zip(raw).map(|(ours, raw)| ours / raw);
            let (ours, raw, ratio) = (decimal(ours, 0), decimal(raw, 0), decimal(ratio, 2));
            println!("{name:24} {ours:>14} {raw:>14} {ratio:>6}");
        }
    }

    /// Criterion's estimate, unless it is from another run.
    fn median(&self, name: &str, side: &str) -> Option<f64> {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("../criterion")
            .join(name)
            .join(side)
            .join("new/estimates.json");
        let written = fs::metadata(&file).ok()?.modified().ok()?;
        if written < self.start {
            return None;
        }
        let estimates: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        estimates["median"]["point_estimate"].as_f64()
    }
}

fn decimal(number: Option<f64>, digits: usize) -> String {
    number.map_or_else(String::new, |number| format!("{number:.digits$}"))
}
