//! Measuring two ways of doing the same, and saying how many times as long the first takes.

use criterion::Criterion;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// What the crate does, and the least that does it.
const CRATE: &str = "crate";
const RAW: &str = "raw";

/// What was measured, by criterion.
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

    /// Measures `ours` and `raw`, one after the other.
    pub fn of<O, R>(
        &mut self,
        name: &'static str,
        mut ours: impl FnMut() -> O,
        raw: impl FnMut() -> R,
    ) {
        let mut group = self.criterion.benchmark_group(name);
        group.bench_function(CRATE, |bencher| bencher.iter(&mut ours));
        group.finish();
        self.raw(name, raw);
    }

    /// Measures what the crate has no way of its own for.
    pub fn raw<R>(&mut self, name: &'static str, mut raw: impl FnMut() -> R) {
        let mut group = self.criterion.benchmark_group(name);
        group.bench_function(RAW, |bencher| bencher.iter(&mut raw));
        group.finish();
        self.names.push(name);
    }

    /// Prints the medians of all that was measured in this run, and their ratios.
    pub fn print(&self) {
        println!("{:24} {:>14} {:>14} {:>6}", "median, ns", CRATE, RAW, "ratio");
        for name in &self.names {
            let [ours, raw] = [CRATE, RAW].map(|way| self.median(name, way));
            let ratio = ours.zip(raw).map(|(ours, raw)| ours / raw);
            let [ours, raw] = [ours, raw].map(|median| decimal(median, 0));
            println!("{name:24} {ours:>14} {raw:>14} {:>6}", decimal(ratio, 2));
        }
    }

    /// What criterion estimated, unless that was another run.
    fn median(&self, name: &str, way: &str) -> Option<f64> {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("../criterion")
            .join(name)
            .join(way)
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
