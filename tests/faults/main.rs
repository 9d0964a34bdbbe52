//! Faults wherever there can be some while rows are recorded, and what became of each row.
//!
//! ```text
//! cargo test --test faults
//! ```
//!
//! `PROPTEST_RNG_SEED` repeats the plan of a run; who came first is up to the machine.

mod callers;
mod database;
mod inject;
mod instruments;
mod ledger;
mod log;
mod plan;
#[path = "../suite/random.rs"]
mod random;
mod report;
mod storm;
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
use report::{table, total};
use support::fixtures::eventually;
use support::postgres::{Binaries, Server};
use tested_recorder::TestedRecorder;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// How many faults have to happen on the way and on the server, beside what callers do.
const FAULTS: usize = 1_500;

/// How many kinds of them there are, and each has to happen.
const KINDS: usize = 17;

/// How many bytes more may be held afterwards than before: what a runtime and a log keep.
const SLACK: usize = 1 << 19;

#[tokio::main]
async fn main() {
    let start = Instant::now();
    log::keep();
    let mut runner = random::runner();
    let settings = ["deadlock_timeout=200ms"];
    let server = Server::durable(&Binaries::find(|_| {}).unwrap(), &settings).unwrap();
    let tried = Database::create(&server, "tried", false).await;
    instruments::check(&tried.url, tried.version).await;
    drop(tried);

    let before = ALLOCATOR.current_usage();
    let together = Arc::new(Database::create(&server, "together", false).await);
    let apart = Arc::new(Database::create(&server, "apart", true).await);
    let (options, patient) = (RecorderOptions::default, Duration::from_secs(100));
    let narrow = options().writers(4).max_batch(8).max_records(40);
    let tested_recorders = [
        TestedRecorder::start("one writer", &together, options(), patient).await,
        TestedRecorder::start("four writers", &together, narrow, patient).await,
        TestedRecorder::start("hasty", &together, options().writers(2), Duration::from_millis(400))
            .await,
        TestedRecorder::start(
            "billing first",
            &apart,
            options().writers(2).billing_first(true),
            patient,
        )
        .await,
    ];
    let (fired, server) = storm::run(&tested_recorders, server, &mut runner, FAULTS).await;
    for tested in &tested_recorders {
        settle(tested).await;
    }
    let (mut broken, lost) = (Vec::new(), log::take_lost());
    for database in [&together, &apart] {
        broken.extend(database.check(&lost).await);
    }

    let seen: Vec<_> =
        tested_recorders.iter().map(|tested| (tested.name, tested.seen.counts())).collect();
    let ends = [("together", together.ledger.ends()), ("apart", apart.ledger.ends())];
    println!("{}\n{}\n{}", table("Fault", &fired), table("Caller", &seen), table("Record", &ends));
    drop((tested_recorders, together, apart, seen, ends, lost, server));
    let after = ALLOCATOR.current_usage();
    let faults = total(&fired);
    println!("{faults} faults in {:.0?}", start.elapsed());
    println!("{before} bytes were held before, {after} after");
    for broken in broken.iter().take(20) {
        println!("{broken}");
    }
    assert_eq!(broken.len(), 0, "rules are broken");
    assert!(faults >= FAULTS, "{faults} faults are too few");
    let of_all = fired.iter().flat_map(|(_, counts)| counts);
    let kinds: BTreeSet<_> =
        of_all.filter(|(_, times)| **times > 0).map(|(kind, _)| kind).collect();
    assert_eq!(kinds.len(), KINDS, "{kinds:?}");
    assert!(after < before + SLACK, "memory didn't come back");
}

/// Waits until the recorder has nothing left, and ends it.
async fn settle(tested: &TestedRecorder) {
    eventually("all is written", async || {
        sleep(Duration::from_millis(10)).await;
        tested.recorder.is_empty()
    })
    .await;
    assert_eq!(tested.recorder.shutdown(Duration::from_secs(60)).await, [], "{}", tested.name);
    tested.until_disconnected().await;
}
