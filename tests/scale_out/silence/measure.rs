//! What a pool, a recorder and a cache do while a link is silent, and how long each takes.

use model_experiments::recording::{Outcome, Record, Usage};
use model_experiments::{Pool, PoolOptions, Recorder, RecorderOptions};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

use crate::support::fixtures::{Recorded, active, eventually, number, pid, raw, recorded, request};
use crate::support::{connect, options};

/// The longest statement of the pool.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);

/// The pause between two attempts to be served again.
const PAUSE: Duration = Duration::from_millis(100);

/// A way to the server that can fall silent.
pub trait Link {
    /// Lets nothing arrive any more, and tells nobody.
    fn silence(&mut self);

    /// Carries again what is sent from now on.
    fn mend(&mut self);
}

/// How long each took, from when it began.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The check of a pool that has a free connection.
    pub health: Duration,
    /// The check after that.
    pub health_again: Duration,
    /// A statement that ran, from the silence on.
    pub in_flight: Duration,
    /// The first connection of the pool that answers, from the link's return on.
    pub served_again: Duration,
    /// Whether that is none of those that were there before.
    pub is_another_connection: bool,
    /// A record that was submitted in the silence, from the link's return on.
    pub recorded: Duration,
}

/// Silences `link`, over which `url` leads, and mends it. `direct` leads around it.
pub async fn measure(url: &str, direct: &str, link: &mut impl Link) -> Measured {
    let watcher = &mut connect(direct).await.unwrap();
    let version = active(watcher, "partner/foo").await.control_version.id;
    let connect = options(url).statement_timeout(STATEMENT_TIMEOUT);
    let recorder = Recorder::start(&connect, RecorderOptions::default()).await.unwrap();
    let pool = Pool::new(connect, PoolOptions::default().max_size(2)).unwrap();

    let (mut busy, mut free) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let before = [pid(&mut busy).await, pid(&mut free).await];
    drop(free);
    let running = tokio::spawn(async move {
        let outcome = raw(&mut busy, "SELECT pg_sleep(1.5)").await;
        (outcome, Instant::now())
    });
    let sleeps = "SELECT count(*) AS number FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'PgSleep'";
    eventually("it runs", async || number(watcher, sleeps).await == 1).await;
    link.silence();
    let silent = Instant::now();
    let record = Record::new(Usage::new("user-1"), request(version));
    let receipt = recorder.try_submit(record).unwrap();
    let health = failed_health(&pool).await;
    let health_again = failed_health(&pool).await;
    let (outcome, ended) = timeout(LIMIT, running).await.expect("the statement ends").unwrap();
    assert!(outcome.is_err(), "{outcome:?}");

    link.mend();
    let mended = Instant::now();
    let conn = &mut loop {
        if pool.health().await.is_ok() {
            break pool.get().await.unwrap();
        }
        assert!(mended.elapsed() < LIMIT, "it is never served again");
        sleep(PAUSE).await;
    };
    let served_again = mended.elapsed();
    let is_another_connection = !before.contains(&pid(conn).await);
    let outcome = timeout(LIMIT, receipt).await.expect("it is recorded");
    assert_eq!(outcome, Ok(Outcome::Recorded));
    let recorded_after = mended.elapsed();
    assert_eq!(recorded(conn).await, Recorded::both(1));
    Measured {
        health,
        health_again,
        in_flight: ended - silent,
        served_again,
        is_another_connection,
        recorded: recorded_after,
    }
}

async fn failed_health(pool: &Pool) -> Duration {
    let start = Instant::now();
    let outcome = timeout(LIMIT, pool.health()).await.expect("the check ends");
    assert!(outcome.is_err());
    start.elapsed()
}
