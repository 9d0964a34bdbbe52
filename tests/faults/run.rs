//! The run: callers, faults and crashes at the same time.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{sleep, timeout};

use crate::plan::Crash;
use crate::report::{Column, total};
use crate::support::postgres::Server;
use crate::tested_recorder::TestedRecorder;
use crate::{callers, inject, plan};

/// Callers per recorder.
const CALLERS: usize = 16;

/// Faults per recorder that are pending at the same time.
const INJECTORS: usize = 2;

/// Longest time that a run may take.
const LIMIT: Duration = Duration::from_secs(720);

/// Records through all recorders while faults happen and the server crashes, until there were
/// `enough` faults. Returns how often each fault happened, per recorder.
pub async fn run(
    tested_recorders: &[Arc<TestedRecorder>],
    server: Server,
    runner: &mut TestRunner,
    enough: usize,
) -> (Vec<Column>, Server) {
    let stop_faults = Arc::new(AtomicBool::new(false));
    let stop_callers = Arc::new(AtomicBool::new(false));
    let mut new_runner = || TestRunner::new_with_rng(runner.config().clone(), runner.new_rng());
    let crashes = tokio::spawn(crash(server, new_runner(), Arc::clone(&stop_faults)));
    let (mut injectors, mut callers) = (JoinSet::new(), JoinSet::new());
    for tested in tested_recorders {
        for _ in 0..INJECTORS {
            let stop = Arc::clone(&stop_faults);
            injectors.spawn(inject::run(Arc::clone(tested), new_runner(), stop));
        }
        for _ in 0..CALLERS {
            let stop = Arc::clone(&stop_callers);
            callers.spawn(callers::run(Arc::clone(tested), new_runner(), stop));
        }
    }
    let faults = || {
        let column = |tested: &Arc<TestedRecorder>| Column::new(tested.name, tested.faults());
        tested_recorders.iter().map(column).collect::<Vec<_>>()
    };
    let start = Instant::now();
    while total(&faults()) < enough {
        assert!(start.elapsed() < LIMIT, "too few faults in time: {:?}", faults());
        // A caller ends early only by a panic.
        match timeout(Duration::from_millis(100), callers.join_next()).await {
            Ok(ended) => ended.unwrap().unwrap(),
            Err(_) => continue,
        }
    }
    stop_faults.store(true, Ordering::Relaxed);
    join(&mut injectors).await;
    let (crashes, server) = crashes.await.unwrap();
    stop_callers.store(true, Ordering::Relaxed);
    join(&mut callers).await;
    let mut faults = faults();
    faults.push(Column::new("all", [("server killed", crashes)].into()));
    (faults, server)
}

async fn join(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

/// Kills and restarts the server until it is told to stop. Returns how often.
async fn crash(
    mut server: Server,
    mut runner: TestRunner,
    stop: Arc<AtomicBool>,
) -> (usize, Server) {
    let mut crashes = 0;
    loop {
        let Crash { uptime, downtime } = plan::crash().new_tree(&mut runner).unwrap().current();
        sleep(uptime).await;
        if stop.load(Ordering::Relaxed) {
            return (crashes, server);
        }
        block_in_place(|| server.kill()).unwrap();
        sleep(downtime).await;
        block_in_place(|| server.restart()).unwrap();
        crashes += 1;
    }
}
