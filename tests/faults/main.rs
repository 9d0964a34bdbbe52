//! Records through several recorders while every kind of fault happens, and then compares the
//! database with what every caller was told.
//!
//! ```text
//! cargo test --test faults
//! ```
//!
//! `PROPTEST_RNG_SEED` repeats the plan of a run, but not the order of concurrent events.

mod callers;
mod database;
mod fault_check;
mod inject;
mod ledger;
mod log;
mod plan;
#[path = "../suite/random.rs"]
mod random;
mod report;
mod run;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../support/mod.rs"]
mod support;
mod tested_recorder;
mod wire;

use model_experiments::RecorderOptions;
use peak_alloc::PeakAlloc;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

use database::Database;
use report::{Column, table, total};
use support::fixtures::eventually;
use support::postgres::{Binaries, Server};
use tested_recorder::{NEVER_GIVES_UP, TestedRecorder};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Required number of faults on the network and on the server.
const FAULTS: usize = 1_500;

/// Kinds of these faults, each of which has to happen.
const KINDS: usize = 17;

/// Bytes that may be held at the end beyond those at the start: what the runtime and a log keep.
const SLACK: usize = 1 << 19;

#[tokio::main]
async fn main() {
    let start = Instant::now();
    log::keep_errors();
    let mut runner = random::runner();
    let settings = ["deadlock_timeout=200ms"];
    let server = Server::durable(&Binaries::find(|_| {}).unwrap(), &settings).unwrap();
    let database = Database::create(&server, "fault_check", false).await;
    fault_check::run(&database.url, database.version).await;
    drop(database);

    let before = ALLOCATOR.current_usage();
    let paired = Arc::new(Database::create(&server, "paired", false).await);
    let billed_first = Arc::new(Database::create(&server, "billed_first", true).await);
    let tested_recorders = start_recorders(&paired, &billed_first).await;
    let (faults, server) = run::run(&tested_recorders, server, &mut runner, FAULTS).await;
    for tested in &tested_recorders {
        settle(tested).await;
    }
    let lost = log::take_lost();
    let mut violations = paired.check(&lost).await;
    violations.extend(billed_first.check(&lost).await);

    let counts = |tested: &Arc<TestedRecorder>| Column::new(tested.name, tested.counts.by_name());
    let callers: Vec<_> = tested_recorders.iter().map(counts).collect();
    let answers = [
        Column::new("paired", paired.ledger.count_answers()),
        Column::new("billed first", billed_first.ledger.count_answers()),
    ];
    println!("{}", table("Fault", &faults));
    println!("{}", table("Caller", &callers));
    println!("{}", table("Record", &answers));
    drop((tested_recorders, paired, billed_first, callers, answers, lost, server));
    let after = ALLOCATOR.current_usage();
    let happened = total(&faults);
    println!("{happened} faults in {:.0?}", start.elapsed());
    println!("allocated: {before} bytes before, {after} bytes after");
    for violation in violations.iter().take(20) {
        println!("{violation}");
    }
    assert_eq!(violations.len(), 0, "rules are violated");
    assert!(happened >= FAULTS, "only {happened} faults happened");
    let kinds: BTreeSet<_> = faults.iter().flat_map(Column::kinds).collect();
    assert_eq!(kinds.len(), KINDS, "{kinds:?}");
    assert!(after < before + SLACK, "memory is not freed");
}

/// The recorders, each with options of its own.
async fn start_recorders(
    paired: &Arc<Database>,
    billed_first: &Arc<Database>,
) -> [Arc<TestedRecorder>; 4] {
    let options = RecorderOptions::default;
    let small = options().writers(4).max_batch(8).max_records(40);
    let two_writers = options().writers(2);
    let billing_first = options().writers(2).billing_first(true);
    let gives_up = Duration::from_millis(400);
    [
        TestedRecorder::start("one writer", paired, options(), NEVER_GIVES_UP).await,
        TestedRecorder::start("four writers", paired, small, NEVER_GIVES_UP).await,
        TestedRecorder::start("gives up soon", paired, two_writers, gives_up).await,
        TestedRecorder::start("billing first", billed_first, billing_first, NEVER_GIVES_UP).await,
    ]
}

/// Waits until the recorder holds nothing, and shuts it down.
async fn settle(tested: &TestedRecorder) {
    let TestedRecorder { name, recorder, .. } = tested;
    eventually("all records are written", async || {
        sleep(Duration::from_millis(10)).await;
        recorder.is_empty()
    })
    .await;
    let unwritten = recorder.shutdown(Duration::from_secs(60)).await;
    assert!(unwritten.is_empty(), "{name}: {unwritten:?}");
    tested.wait_until_disconnected().await;
}
