//! Connection URLs with several hosts.

use crate::support::fixtures::{free_port, option, pid, setting};
use crate::support::network::Network;
use crate::support::{TestDatabase, connect, options};
use model_experiments::error::Transient;
use model_experiments::{
    ConnectOptions, Error, Pool, PoolOptions, Recorder, RecorderOptions, RoutingCache,
    RoutingOptions, TargetSession, migrations,
};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::timeout;
use url::Url;

/// The URL with these hosts in place of its own.
pub fn at(url: &str, hosts: &[&str]) -> String {
    let url: Url = url.parse().unwrap();
    let login = url.username();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("postgres://{login}@{}{}{query}", hosts.join(","), url.path())
}

/// The host and port that lead through a network.
pub fn host(network: &Network) -> String {
    let url: Url = network.url().parse().unwrap();
    format!("127.0.0.1:{}", url.port().unwrap())
}

fn refused_port() -> String {
    format!("127.0.0.1:{}", free_port())
}

async fn refusal(connect: ConnectOptions) -> Error {
    connect.connect().await.err().expect("it connected")
}

#[tokio::test]
async fn a_host_that_accepts_and_says_nothing_keeps_none_from_the_next() {
    let db = TestDatabase::new().await;
    let (silent, up) = (Network::to(&db.url()).await, Network::to(&db.url()).await);
    silent.silence();
    let url = at(silent.url(), &[&host(&silent), &host(&up)]);
    let connect = options(&option(&url, "connect_timeout=1"));

    let pool = Pool::new(connect.clone(), PoolOptions::default()).unwrap();
    assert_eq!(setting(&mut pool.get().await.unwrap(), "statement_timeout").await, "30s");
    assert_eq!(migrations::pending(&connect).await.unwrap(), [""; 0]);
    let (recorder, cache) = tokio::join!(
        Recorder::start(&connect, RecorderOptions::default()),
        RoutingCache::start(&connect, RoutingOptions::default()),
    );
    assert_eq!(cache.unwrap().len(), 0);
    assert_eq!(recorder.unwrap().shutdown(Duration::ZERO).await, []);
}

#[tokio::test]
async fn an_error_says_what_each_host_said() {
    let db = TestDatabase::empty().await;
    let (silent, gone) = (Network::to(&db.url()).await, refused_port());
    silent.silence();
    let url = at(silent.url(), &[&host(&silent), "no-such-host.invalid", &gone]);
    let error = refusal(options(&option(&url, "connect_timeout=1"))).await;
    assert!(matches!(error, Error::Transient { kind: Transient::ConnectionLost, .. }), "{error:?}");
    let text = error.to_string();
    for part in [
        format!("{}: the connection to the database failed: no answer within 1s", host(&silent)),
        "no-such-host.invalid:5432: the connection to the database failed".to_owned(),
        format!("{gone}: connecting failed"),
    ] {
        assert!(text.contains(&part), "{part} is not in {text}");
    }
}

#[tokio::test]
async fn a_host_that_refuses_the_role_ends_the_search() {
    let db = TestDatabase::empty().await;
    let up = Network::to(&db.url()).await;
    let mut url: Url = up.url().parse().unwrap();
    url.set_username("no_such_role").unwrap();
    let url = at(url.as_str(), &[&host(&up), &refused_port()]);
    let error = refusal(options(&url)).await;
    assert!(matches!(error, Error::Configuration(_)), "{error:?}");
    assert!(error.to_string().contains("no_such_role"), "{error}");
}

#[tokio::test]
async fn a_server_is_taken_if_it_is_of_the_kind_that_is_asked_for() {
    let db = TestDatabase::empty().await;
    let up = Network::to(&db.url()).await;
    for target in [
        TargetSession::Any,
        TargetSession::ReadWrite,
        TargetSession::Primary,
        TargetSession::PreferStandby,
    ] {
        let connect = options(up.url()).target_session(target);
        connect.connect().await.unwrap();
    }
    for target in [TargetSession::ReadOnly, TargetSession::Standby] {
        let error = refusal(options(up.url()).target_session(target)).await;
        assert!(error.is_retryable(), "{error:?}");
    }
    let read_only = option(up.url(), "options=-c%20default_transaction_read_only%3Don");
    connect(&option(&read_only, "target_session_attrs=primary")).await.unwrap();
}

#[tokio::test]
async fn a_role_that_only_reads_by_default_is_no_session_that_writes() {
    let db = TestDatabase::empty().await;
    let name = db.url().rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
    let conn = &mut db.connect().await;
    let alter = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    crate::support::fixtures::raw(conn, &alter).await.unwrap();
    let error = refusal(db.options().target_session(TargetSession::ReadWrite)).await;
    assert!(matches!(error, Error::Transient { kind: Transient::ReadOnly, .. }), "{error:?}");
    for target in [TargetSession::ReadOnly, TargetSession::Primary] {
        db.options().target_session(target).connect().await.unwrap();
    }
}

#[tokio::test]
async fn hosts_are_tried_in_order_or_at_random() {
    let db = TestDatabase::empty().await;
    let (first, second) = (Network::to(&db.url()).await, Network::to(&db.url()).await);
    let url = at(first.url(), &[&host(&first), &host(&second)]);
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        let conn = &mut connect(&option(&url, "load_balance_hosts=random")).await.unwrap();
        assert!(pid(conn).await > 0);
        seen.insert((first.carried(), second.carried()));
    }
    // The chance that one of two is never taken is 2 in 2^40.
    assert!(first.carried() > 0 && second.carried() > 0, "{seen:?}");
    let before = second.carried();
    connect(&url).await.unwrap();
    assert_eq!(second.carried(), before);
}

#[tokio::test]
async fn create_timeout_covers_all_hosts() {
    let db = TestDatabase::empty().await;
    let (first, second) = (Network::to(&db.url()).await, Network::to(&db.url()).await);
    first.silence();
    second.silence();
    let url = at(first.url(), &[&host(&first), &host(&second)]);
    let connect = options(&option(&url, "connect_timeout=300"));
    let options = PoolOptions::default().create_timeout(Duration::from_millis(100));
    let pool = Pool::new(connect, options).unwrap();
    let error = timeout(Duration::from_secs(60), pool.get()).await.unwrap().err().unwrap();
    assert!(matches!(error, Error::Transient { kind: Transient::ConnectionLost, .. }), "{error:?}");
}
