//! A streaming standby: what reads works there, and a cache follows it until it is promoted.

use crate::database::hosts::{at, host};
use crate::database::operations::{Rows, rows, run};
use crate::database::privileges::documented;
use crate::support::fixtures::{active, eventually, pid, raw};
use crate::support::log::Log;
use crate::support::network::Network;
use crate::support::postgres::{Binaries, Server};
use crate::support::{TEMPLATE, connect, options, primary, queries, until_replayed};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::PoolableConnection;
use model_experiments::error::Transient;
use model_experiments::routing::{Route, Subject};
use model_experiments::{
    Error, Pool, PoolOptions, Recorder, RecorderOptions, RoutingCache, RoutingOptions, experiments,
    migrations,
};
use regex::Regex;
use std::fs;
use std::time::Duration;
use tokio::task::yield_now;

/// Longer than any test. A change that a cache sees before was notified.
const NEVER: Duration = Duration::from_secs(3_600);

/// A primary and its standby.
struct Servers {
    binaries: Binaries,
    primary: Server,
    standby: Server,
}

impl Servers {
    fn start() -> Self {
        let binaries = Binaries::find(|_| {}).unwrap();
        let primary = primary(&binaries, &[]);
        let standby = Server::standby(&binaries, &primary, &[]).unwrap();
        Self { binaries, primary, standby }
    }

    async fn connect(&self) -> (AsyncPgConnection, AsyncPgConnection) {
        let primary = connect(&self.primary.url(TEMPLATE)).await.unwrap();
        (primary, connect(&self.standby.url(TEMPLATE)).await.unwrap())
    }
}

fn is_read_only<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Transient { kind: Transient::ReadOnly, .. }))
}

/// Waits until a pick `is_expected`.
async fn until(cache: &RoutingCache, model: &str, is_expected: impl Fn(&Route) -> bool) {
    eventually("the cache sees the change", async || {
        yield_now().await;
        is_expected(&cache.pick(model, Subject::user("user-1")))
    })
    .await;
}

fn is_served(cache: &RoutingCache, model: &str) -> bool {
    matches!(cache.pick(model, Subject::user("user-1")), Route::Serve(_))
}

#[tokio::test]
async fn every_operation_that_reads_works_and_every_other_says_that_nothing_is_written() {
    let servers = Servers::start();
    let (mut primary, mut standby) = servers.connect().await;
    let rows: Rows = rows(&mut primary).await;
    until_replayed(&mut primary, &mut standby).await;
    let is_read = |privileges: &[String]| privileges.iter().all(|of| of.starts_with("SELECT "));
    let (reads, writes): (Vec<_>, Vec<_>) =
        documented().into_iter().partition(|(_, privileges)| is_read(privileges));
    assert!(reads.len() >= 7 && writes.len() >= 13, "{reads:?} {writes:?}");
    for (operation, _) in reads {
        assert_eq!(run(&mut standby, operation, &rows).await, Ok(()), "{operation}");
    }
    for (operation, _) in writes {
        let conn = &mut connect(&servers.standby.url(TEMPLATE)).await.unwrap();
        let outcome = run(conn, operation, &rows).await;
        assert!(is_read_only(&outcome), "{operation}: {outcome:?}");
        assert!(conn.is_broken(), "{operation}: a pool would hand it out again");
    }
}

#[tokio::test]
async fn every_query_that_only_reads_is_taken() {
    let servers = Servers::start();
    let (_, mut standby) = servers.connect().await;
    let writes = Regex::new(
        r"(?m)^\s*(INSERT|UPDATE|DELETE|FOR (NO KEY )?UPDATE|FOR (KEY )?SHARE)\b|pg_notify\(",
    )
    .unwrap();
    let (mut read, mut written) = (0, 0);
    for file in fs::read_dir(queries::directory()).unwrap() {
        let path = file.unwrap().path();
        let sql = fs::read_to_string(&path).unwrap();
        if writes.is_match(&sql) {
            written += 1;
            continue;
        }
        let parameters = (1..).take_while(|at| sql.contains(&format!("${at}"))).count();
        let nulls = vec!["NULL"; parameters].join(", ");
        let nulls = if nulls.is_empty() { nulls } else { format!("({nulls})") };
        let run = format!("PREPARE q AS {sql}; EXECUTE q{nulls}; DEALLOCATE q");
        assert_eq!(raw(&mut standby, &run).await, Ok(()), "{}", path.display());
        read += 1;
    }
    assert!(read > 35 && written > 15, "{read} {written}");
}

#[tokio::test]
async fn a_cache_follows_a_standby_by_polls_and_listens_once_it_is_promoted() {
    let mut servers = Servers::start();
    let (mut primary, mut standby) = servers.connect().await;
    active(&mut primary, "partner/foo").await;
    let paused = active(&mut primary, "partner/bar").await.experiment.id;
    until_replayed(&mut primary, &mut standby).await;
    let connect_options = options(&servers.standby.url(TEMPLATE));

    let refused = RoutingCache::start(&connect_options, RoutingOptions::default()).await;
    assert!(is_read_only(&refused), "{refused:?}");
    let (log, _guard) = Log::of_thread();
    let polled = RoutingOptions::default().allow_standby(true);
    let polls = polled.clone().poll_interval(Duration::from_millis(50));
    let cache = RoutingCache::start(&connect_options, polls).await.unwrap();
    let never = polled.poll_interval(NEVER).max_staleness(2 * NEVER);
    let notified = RoutingCache::start(&connect_options, never).await.unwrap();
    assert!(is_served(&cache, "partner/foo"));
    let said = log.lines().into_iter().filter(|line| line.contains("follows a standby")).count();
    assert_eq!(said, 2);

    // A change that is replayed is seen by a poll.
    experiments::pause(&mut primary, paused).await.unwrap();
    until(&cache, "partner/bar", |route| *route == Route::Paused).await;
    assert!(is_served(&notified, "partner/bar"));

    drop(primary);
    servers.primary.kill().unwrap();
    assert!(is_served(&cache, "partner/foo"));
    servers.standby.promote(&servers.binaries).unwrap();
    let promoted = &mut connect(&servers.standby.url(TEMPLATE)).await.unwrap();
    let follows = || log.lines().into_iter().filter(|line| line.contains("follows the primary"));
    eventually("both listen", async || {
        pid(promoted).await;
        follows().count() == 2
    })
    .await;
    experiments::activate(promoted, paused).await.unwrap();
    for cache in [&cache, &notified] {
        until(cache, "partner/bar", |route| matches!(route, Route::Serve(_))).await;
    }
}

#[tokio::test]
async fn a_recorder_and_migrations_wait_for_a_server_that_takes_writes() {
    let servers = Servers::start();
    let (mut primary, mut standby) = servers.connect().await;
    let standby_options = options(&servers.standby.url(TEMPLATE));
    let refused = Recorder::start(&standby_options, RecorderOptions::default()).await;
    assert!(is_read_only(&refused), "{refused:?}");
    // Nothing is pending.
    let wait = Duration::from_millis(200);
    assert_eq!(migrations::run_within(&standby_options, wait).await.unwrap(), [""; 0]);
    assert_eq!(migrations::pending(&standby_options).await.unwrap(), [""; 0]);
    raw(&mut primary, "CREATE DATABASE empty TEMPLATE template0").await.unwrap();
    until_replayed(&mut primary, &mut standby).await;
    let empty = options(&servers.standby.url("empty"));
    let outcome = migrations::run_within(&empty, wait).await;
    assert!(is_read_only(&outcome), "{outcome:?}");
    let (applied, ()) = tokio::join!(migrations::run(&empty), async {
        servers.standby.promote(&servers.binaries).unwrap();
    });
    assert_eq!(
        applied.unwrap().len(),
        migrations::pending(&options(&servers.primary.url("empty"))).await.unwrap().len()
    );
}

#[tokio::test]
async fn a_host_is_of_the_kind_that_is_asked_for() {
    use model_experiments::TargetSession::{
        Any, PreferStandby, Primary, ReadOnly, ReadWrite, Standby,
    };
    let servers = Servers::start();
    let of_primary = Network::to(&servers.primary.url(TEMPLATE)).await;
    let of_standby = Network::to(&servers.standby.url(TEMPLATE)).await;
    let hosts = [host(&of_primary), host(&of_standby)];
    let both = at(of_primary.url(), &[&hosts[0], &hosts[1]]);
    let back = at(of_primary.url(), &[&hosts[1], &hosts[0]]);
    let takes_writes = async |url: &str, target| {
        let connect = match target {
            Some(target) => options(url).target_session(target),
            None => options(url),
        };
        Pool::new(connect, PoolOptions::default()).unwrap().health().await.unwrap().takes_writes
    };
    for url in [&both, &back] {
        for target in [None, Some(Primary), Some(ReadWrite)] {
            assert!(takes_writes(url, target).await, "{target:?}");
        }
        for target in [Standby, ReadOnly, PreferStandby] {
            assert!(!takes_writes(url, Some(target)).await, "{target:?}");
        }
    }
    assert!(takes_writes(&both, Some(Any)).await);
    assert!(!takes_writes(&back, Some(Any)).await);
    assert!(takes_writes(of_primary.url(), Some(PreferStandby)).await);
    assert!(!takes_writes(of_standby.url(), None).await);
    for target in [Primary, ReadWrite] {
        let refused = options(of_standby.url()).target_session(target).connect().await;
        assert!(is_read_only(&refused.map(drop)), "{target:?}");
    }
}
