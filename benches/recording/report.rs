//! The results, as tables.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use statrs::statistics::{Data, OrderStatistics};
use std::fmt;

use crate::measure::{Run, Scenario};

/// A target for the ratio of one scenario to a baseline.
pub struct Target {
    pub ours: String,
    pub baseline: String,
    pub bound: Bound,
}

/// The bound of a ratio.
#[derive(Clone, Copy)]
pub enum Bound {
    /// Records per second: at least this ratio.
    MinThroughput(f64),
    /// Median wait of a caller: at most this ratio.
    MaxWait(f64),
}

/// Median, minimum and maximum over the rounds.
pub struct OverRounds {
    median: f64,
    min: f64,
    max: f64,
}

impl OverRounds {
    /// Of a value of each run.
    pub fn of(scenario: &Scenario, value: fn(&Run) -> f64) -> Self {
        Self::new(scenario.runs.iter().map(value))
    }

    /// Of the ratio to the run of `baseline` in the same round.
    pub fn of_ratio(ours: &Scenario, baseline: &Scenario, value: fn(&Run) -> f64) -> Self {
        let rounds = ours.runs.iter().zip(&baseline.runs);
        Self::new(rounds.map(|(ours, baseline)| value(ours) / value(baseline)))
    }

    fn new(values: impl Iterator<Item = f64>) -> Self {
        let mut values = Data::new(values.collect::<Vec<_>>());
        Self { median: values.median(), min: values.percentile(0), max: values.percentile(100) }
    }
}

impl fmt::Display for OverRounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Self { median, min, max } = self;
        write!(f, "{median:.digits$} ({min:.digits$} to {max:.digits$})")
    }
}

/// A table of the scenarios' measurements.
pub fn scenarios(setting: &str, scenarios: &[Scenario]) -> Table {
    let setting = format!("synchronous_commit {setting}");
    let mut table = table([&setting, "callers", "records/s", "wait p50, ms", "wait p99, ms"]);
    for scenario in scenarios {
        table.add_row([
            scenario.name.clone(),
            scenario.load.callers.to_string(),
            format!("{:.0}", OverRounds::of(scenario, |run| run.throughput)),
            format!("{:.2}", OverRounds::of(scenario, |run| run.p50)),
            format!("{:.2}", OverRounds::of(scenario, |run| run.p99)),
        ]);
    }
    table
}

/// A table of the ratios that have a target.
pub fn targets(setting: &str, scenarios: &[Scenario], targets: &[Target]) -> Table {
    let setting = format!("synchronous_commit {setting}");
    let mut table = table([&setting, "baseline", "ratio of", "target", "measured", "met"]);
    for Target { ours, baseline, bound } in targets {
        let (ours, baseline) = (find(scenarios, ours), find(scenarios, baseline));
        let (value, target, ratio, is_met) = match *bound {
            Bound::MinThroughput(min) => {
                let ratio = OverRounds::of_ratio(ours, baseline, |run| run.throughput);
                let is_met = ratio.median >= min;
                ("records/s", format!("at least {min:.2}"), ratio, is_met)
            }
            Bound::MaxWait(max) => {
                let ratio = OverRounds::of_ratio(ours, baseline, |run| run.p50);
                let is_met = ratio.median <= max;
                ("wait p50", format!("at most {max:.2}"), ratio, is_met)
            }
        };
        table.add_row([
            ours.name.as_str(),
            &baseline.name,
            value,
            &target,
            &ratio.to_string(),
            if is_met { "yes" } else { "no" },
        ]);
    }
    table
}

/// The scenario of this name.
pub fn find<'s>(scenarios: &'s [Scenario], name: &str) -> &'s Scenario {
    let found = scenarios.iter().find(|scenario| scenario.name == name);
    found.unwrap_or_else(|| panic!("there is no scenario {name}"))
}

/// A table whose columns are numbers, except for the first.
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
