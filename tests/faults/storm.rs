//! Everything that goes wrong at once.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{sleep, timeout};

use crate::report::{Column, total};
use crate::support::postgres::Server;
use crate::tested_recorder::TestedRecorder;
use crate::{callers, inject, plan};

/// Who records through each recorder.
const CALLERS: usize = 16;

/// How many faults wait to be met at a time, by each recorder.
const INJECTORS: usize = 2;

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(720);

/// Records through all tested_recorders while faults happen to each, and the server is killed now
/// and then, until there were as many as `enough`. Tells how often each happened, for each tested.
pub async fn run(
    tested_recorders: &[Arc<TestedRecorder>],
    server: Server,
    runner: &mut TestRunner,
    enough: usize,
) -> (Vec<Column>, Server) {
    let (calm, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut another = || TestRunner::new_with_rng(runner.config().clone(), runner.new_rng());
    let crashing = tokio::spawn(crash(server, another(), Arc::clone(&calm)));
    let (mut injectors, mut callers) = (JoinSet::new(), JoinSet::new());
    for tested in tested_recorders {
        for _ in 0..INJECTORS {
            injectors.spawn(inject::run(Arc::clone(tested), another(), Arc::clone(&calm)));
        }
        for _ in 0..CALLERS {
            callers.spawn(callers::run(Arc::clone(tested), another(), Arc::clone(&stop)));
        }
    }
    let faults = || {
        tested_recorders
            .iter()
            .map(|tested| (tested.name, tested.faults()))
            .collect::<Vec<Column>>()
    };
    let start = Instant::now();
    while total(&faults()) < enough {
        assert!(start.elapsed() < LIMIT, "too few faults in time: {:?}", faults());
        // A caller ends early only where something is wrong.
        match timeout(Duration::from_millis(100), callers.join_next()).await {
            Ok(ended) => ended.unwrap().unwrap(),
            Err(_) => continue,
        }
    }
    calm.store(true, Ordering::Relaxed);
    join(&mut injectors).await;
    let (crashes, server) = crashing.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    join(&mut callers).await;
    let mut faults = faults();
    faults.push(("all", [("server killed", crashes)].into()));
    (faults, server)
}

async fn join(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

/// Kills the server and starts it again until it is calm; tells how often.
async fn crash(
    mut server: Server,
    mut runner: TestRunner,
    calm: Arc<AtomicBool>,
) -> (usize, Server) {
    let mut crashes = 0;
    loop {
        let [up, down] = plan::crash().new_tree(&mut runner).unwrap().current();
        sleep(up).await;
        if calm.load(Ordering::Relaxed) {
            return (crashes, server);
        }
        block_in_place(|| server.kill()).unwrap();
        sleep(down).await;
        block_in_place(|| server.restart()).unwrap();
        crashes += 1;
    }
}
