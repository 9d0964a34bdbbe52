//! Traces, replayed as fast as the recorder takes them.

use model_experiments::{Recorder, RecorderOptions};
use std::path::Path;

use crate::database::Database;
use crate::measure::{self, Run};
use crate::row::Row;
use crate::way::Way;
use crate::{report, trace};

/// Where they are, if they are.
const TRACES: [&str; 2] = ["azure_llm_trace_2023_code.csv", "azure_llm_trace_2023_conv.csv"];

const CALLERS: usize = 64;

/// Records a pair for each line of the traces. Their sums are the traces' own.
pub async fn replay(database: &Database) {
    let recorder = Recorder::start(&database.url(), RecorderOptions::default()).await.unwrap();
    let way = Way::Recorder(recorder);
    let header =
        ["replayed", "pairs", "callers", "pairs/s", "waits, p50 in ms", "waits, p99 in ms"];
    let mut table = report::table(header);
    for name in TRACES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
        if !path.exists() {
            println!("{name} isn't in ../shared/data: skipped");
            continue;
        }
        let requests = trace::read(&path).unwrap();
        let rows = requests.iter().map(|request| Row::new(&database.versions, request)).collect();
        let Run { throughput, p50, p99 } = measure::run(database, &way, CALLERS, 1, rows).await;
        table.add_row([
            name.to_owned(),
            requests.len().to_string(),
            CALLERS.to_string(),
            format!("{throughput:.0}"),
            format!("{p50:.2}"),
            format!("{p99:.2}"),
        ]);
    }
    way.end().await;
    if !table.is_empty() {
        println!("{table}");
    }
}
