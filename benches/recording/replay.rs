//! Traces, replayed as fast as the recorder takes them.

use model_experiments::{Recorder, RecorderOptions};

use crate::database::Database;
use crate::measure::{self, Run};
use crate::path::Path;
use crate::record::PreparedRecord;
use crate::{report, trace};

/// The traces, replayed if they are in `../shared/data`.
const TRACES: [&str; 2] = ["azure_llm_trace_2023_code.csv", "azure_llm_trace_2023_conv.csv"];

const CALLERS: usize = 64;

/// Records every line of the traces, and checks that the sums are those of the traces.
pub async fn replay(database: &Database) {
    let recorder = Recorder::start(&database.options(), RecorderOptions::default()).await.unwrap();
    let path = Path::Recorder(recorder);
    let header = ["trace", "records", "callers", "records/s", "wait p50, ms", "wait p99, ms"];
    let mut table = report::table(header);
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    for name in TRACES {
        let file = directory.join(name);
        if !file.exists() {
            println!("skipped {name}: it is not in ../shared/data");
            continue;
        }
        let requests = trace::read(&file).unwrap();
        let record = |request| PreparedRecord::new(&database.versions, request);
        let records = requests.iter().map(record).collect();
        let run = measure::run(database, &path, CALLERS, 1, records).await;
        let Run { throughput, p50, p99 } = run;
        table.add_row([
            name.to_owned(),
            requests.len().to_string(),
            CALLERS.to_string(),
            format!("{throughput:.0}"),
            format!("{p50:.2}"),
            format!("{p99:.2}"),
        ]);
    }
    path.end().await;
    if !table.is_empty() {
        println!("{table}");
    }
}
