//! What was seen, as tables.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use statrs::statistics::{Data, OrderStatistics};
use std::fmt;

use crate::measure::{Run, Side};

/// What one side is to be beside another.
pub struct Target {
    pub ours: String,
    pub theirs: String,
    pub what: What,
}

/// What is compared, and how many times the other side's it is to be.
#[derive(Clone, Copy)]
pub enum What {
    /// Pairs in a second: at least so many times.
    Throughput(f64),
    /// The median of what a caller waits: at most so many times.
    Wait(f64),
}

/// How the rounds are spread.
pub struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// Of what the rounds of `side` have seen.
    pub fn of(side: &Side, what: fn(&Run) -> f64) -> Self {
        Self::over(side.runs.iter().map(what))
    }

    /// Of how many times that of `theirs` it is in each round of `ours`.
    pub fn of_ratio(ours: &Side, theirs: &Side, what: fn(&Run) -> f64) -> Self {
        Self::over(
            ours.runs.iter().zip(&theirs.runs).map(|(ours, theirs)| what(ours) / what(theirs)),
        )
    }

    fn over(rounds: impl Iterator<Item = f64>) -> Self {
        let mut rounds = Data::new(rounds.collect::<Vec<_>>());
        Self { median: rounds.median(), least: rounds.percentile(0), most: rounds.percentile(100) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Self { median, least, most } = self;
        write!(f, "{median:.digits$} ({least:.digits$} to {most:.digits$})")
    }
}

/// The medians of the sides' rounds, with the least and the most.
pub fn sides(setting: &str, sides: &[Side]) -> Table {
    let setting = format!("synchronous_commit {setting}");
    let mut table = table([&setting, "callers", "pairs/s", "waits, p50 in ms", "waits, p99 in ms"]);
    for side in sides {
        table.add_row([
            side.name.clone(),
            side.callers.to_string(),
            format!("{:.0}", Spread::of(side, |run| run.throughput)),
            format!("{:.2}", Spread::of(side, |run| run.p50)),
            format!("{:.2}", Spread::of(side, |run| run.p99)),
        ]);
    }
    table
}

/// The ratios that the targets are about: medians of each round's own.
pub fn targets(setting: &str, sides: &[Side], targets: &[Target]) -> Table {
    let setting = format!("synchronous_commit {setting}");
    let mut table = table([&setting, "beside", "ratio of", "target", "seen", "met"]);
    for Target { ours, theirs, what } in targets {
        let [ours, theirs] = [ours, theirs]
            .map(|name| sides.iter().find(|side| side.name == *name).expect("a side of this name"));
        let (of, target, seen, is_met) = match *what {
            What::Throughput(least) => {
                let seen = Spread::of_ratio(ours, theirs, |run| run.throughput);
                let is_met = seen.median >= least;
                ("pairs/s", format!("at least {least:.2}"), seen, is_met)
            }
            What::Wait(most) => {
                let seen = Spread::of_ratio(ours, theirs, |run| run.p50);
                let is_met = seen.median <= most;
                ("p50", format!("at most {most:.2}"), seen, is_met)
            }
        };
        table.add_row([
            ours.name.as_str(),
            &theirs.name,
            of,
            &target,
            &seen.to_string(),
            if is_met { "yes" } else { "no" },
        ]);
    }
    table
}

/// A table whose columns are numbers but for the first.
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
