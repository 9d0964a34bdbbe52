//! The pool: settings of its connections, which of them it hands out again, and its errors.

use crate::support::fixtures::{
    eventually, free_port, number, option, pid, raw, setting, text, until_gone,
};
use crate::support::network::Network;
use crate::support::postgres::{Binaries, Server};
use crate::support::{TestDatabase, connect, options};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use futures_util::FutureExt;
use model_experiments::error::Transient;
use model_experiments::{ConnectOptions, Error, Pool, PoolOptions};
use std::future::{pending, poll_fn};
use std::io::Read;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;
use url::Url;

const INSERT: &str = "INSERT INTO model_experiment (public_model_id, name) VALUES ('a/b', 'c')";

fn transient(error: &Error) -> Option<Transient> {
    match error {
        Error::Transient { kind, .. } => Some(*kind),
        _ => None,
    }
}

fn pool(connect: ConnectOptions) -> Pool {
    Pool::new(connect, PoolOptions::default()).unwrap()
}

async fn experiments(conn: &mut AsyncPgConnection) -> i64 {
    number(conn, "SELECT count(*) AS number FROM model_experiment").await
}

#[tokio::test]
async fn settings_arrive_at_the_server() {
    let db = TestDatabase::empty().await;
    let url = option(&db.url(), "options=-c%20lock_timeout%3D4321");
    let connect = options(&url)
        .application_name("gateway of a test")
        .statement_timeout(Duration::from_millis(1234));
    let pool = Pool::new(connect, PoolOptions::default().max_size(2)).unwrap();
    let (first, second) = (&mut pool.get().await.unwrap(), &mut pool.get().await.unwrap());
    for conn in [first, second] {
        assert_eq!(setting(conn, "application_name").await, "gateway of a test");
        assert_eq!(setting(conn, "statement_timeout").await, "1234ms");
        assert_eq!(setting(conn, "lock_timeout").await, "4321ms");
        // Diesel reads timestamps without a zone as UTC.
        assert_eq!(setting(conn, "TimeZone").await, "UTC");
    }
    assert_eq!((pool.status().size, pool.status().max_size), (2, 2));
}

#[tokio::test]
async fn unset_settings_have_the_documented_defaults() {
    let db = TestDatabase::empty().await;
    let pool = pool(db.options());
    let conn = &mut pool.get().await.unwrap();
    assert_eq!(pool.status().max_size, 10);
    assert_eq!(setting(conn, "application_name").await, "model-experiments");
    assert_eq!(setting(conn, "statement_timeout").await, "30s");

    let url = option(&db.url(), "application_name=theirs&options=-c%20statement_timeout%3D7s");
    let conn = &mut connect(&url).await.unwrap();
    assert_eq!(setting(conn, "application_name").await, "theirs");
    assert_eq!(setting(conn, "statement_timeout").await, "7s");

    let endless = db.options().statement_timeout(Duration::ZERO);
    assert_eq!(setting(&mut endless.connect().await.unwrap(), "statement_timeout").await, "0");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_a_transient_error() {
    let db = TestDatabase::empty().await;
    let pool = pool(db.options().statement_timeout(Duration::from_millis(50)));
    let conn = &mut pool.get().await.unwrap();
    let error = Error::from(raw(conn, "SELECT pg_sleep(60)").await.unwrap_err());
    assert_eq!(transient(&error), Some(Transient::StatementTimeout), "{error:?}");
    assert!(error.is_retryable());
    assert_eq!(number(conn, "SELECT 1::bigint AS number").await, 1);
}

#[tokio::test]
async fn an_exhausted_pool_says_so_after_the_wait_timeout() {
    let db = TestDatabase::empty().await;
    let patience = PoolOptions::default().max_size(1).wait_timeout(Duration::from_millis(50));
    let pool = Pool::new(db.options(), patience).unwrap();
    let only = pool.get().await.unwrap();
    let error = pool.get().await.err().unwrap();
    assert_eq!(transient(&error), Some(Transient::PoolTimeout), "{error:?}");
    assert!(error.is_retryable());
    let status = pool.status();
    assert_eq!((status.size, status.available, status.waiting), (1, 0, 0));

    let mut waits = Box::pin(pool.get());
    assert!(waits.as_mut().now_or_never().is_none());
    assert_eq!(pool.status().waiting, 1);
    drop(only);
    assert!(waits.await.is_ok());
    assert_eq!((pool.status().available, pool.status().waiting), (1, 0));
}

#[tokio::test]
async fn a_closed_port_is_a_lost_connection() {
    let url = format!("postgres://gateway:hunter2@127.0.0.1:{}/app", free_port());
    let pool = pool(options(&url));
    for error in [pool.get().await.err().unwrap(), pool.health().await.unwrap_err()] {
        assert_eq!(transient(&error), Some(Transient::ConnectionLost), "{error:?}");
        assert!(error.is_retryable());
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_role_or_database_that_does_not_exist_is_named_and_not_retried() {
    let db = TestDatabase::empty().await;
    let mut role: Url = db.url().parse().unwrap();
    role.set_username("no_such_role").unwrap();
    let mut database: Url = db.url().parse().unwrap();
    database.set_path("/no_such_database");
    for (url, name) in [(role, "no_such_role"), (database, "no_such_database")] {
        let error = pool(options(url.as_str())).health().await.unwrap_err();
        assert!(!error.is_retryable());
        match error {
            Error::Configuration(cause) => assert!(cause.message().contains(name), "{cause}"),
            error => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_is_a_lost_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        for _ in 0..3 {
            // A client whose bytes aren't read sees a reset instead of an orderly end.
            let (mut client, _) = listener.accept().unwrap();
            let _ = client.read(&mut [0; 256]).unwrap();
        }
    });
    for mode in ["disable", "prefer", "require"] {
        let url = format!("postgres://gateway@127.0.0.1:{port}/app?sslmode={mode}");
        let error = pool(options(&url)).get().await.err().unwrap();
        assert_eq!(transient(&error), Some(Transient::ConnectionLost), "{mode}: {error:?}");
    }
    server.join().unwrap();
}

#[tokio::test]
async fn a_missing_or_wrong_password_is_not_retried() {
    let server = Server::start_with(&Binaries::find(|_| {}).unwrap(), None, |directory| {
        let file = directory.join("hba");
        std::fs::write(&file, "local all postgres trust\nlocal all all scram-sha-256\n")?;
        Ok(vec![format!("hba_file={}", file.display())])
    })
    .unwrap();
    let conn = &mut connect(&server.url("postgres")).await.unwrap();
    raw(conn, "CREATE ROLE gateway LOGIN PASSWORD 'hunter1'").await.unwrap();
    let health = async |login| {
        let url = server.url("postgres").replace("postgres@", login);
        pool(options(&url)).health().await
    };
    assert!(health("gateway:hunter1@").await.is_ok());
    for (login, reason) in
        [("gateway@", "password missing"), ("gateway:hunter2@", "password authentication failed")]
    {
        match health(login).await {
            Err(Error::Configuration(cause)) => {
                let message = cause.message();
                assert!(message.contains(reason) && !message.contains("hunter"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_url_that_can_not_be_used_is_refused_without_its_password() {
    for url in [
        "mysql://gateway:hunter2@db.example/app",
        "host=db.example user=gateway password=hunter2",
        "postgres://gateway:hunter2@db.example:port/app",
        "postgres://gateway:hunter2@db.example:70000/app",
        "postgres://gateway:hunter2@db.example/app?sslmode=always",
        "postgres://gateway:hunter2@db.example/app?colour=red",
        "postgres://gateway:hunter2@db.example/app?connect_timeout=soon",
        "postgres://gateway:hunter2@db.example/app?sslmode=require&sslrootcert=/no/such.pem",
        "postgres://gateway@db.example/app?sslmode=hunter2",
        "postgres://gateway:%ff-hunter2@db.example/%ff",
        "postgres://gateway:hunter2@db.example:5432:hunter2/app",
        "postgres://gateway:x/hunter2?@db.example:port/app",
        "postgres://gateway:x@hunter2:y@db.example/app",
    ] {
        match ConnectOptions::parse(url) {
            Err(error @ Error::Configuration(_)) => {
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}: {error:?}");
            }
            other => panic!("{url}: {other:?}"),
        }
    }
}

#[test]
fn a_pool_of_no_connection_is_refused() {
    let connect = options("postgres://db.example/app");
    let refused = Pool::new(connect, PoolOptions::default().max_size(0));
    assert!(matches!(refused, Err(Error::Configuration(_))), "{refused:?}");
}

#[test]
fn neither_a_pool_nor_its_options_show_the_password() {
    let connect = options("postgres://gateway:hunter2@db.example/app?sslmode=disable")
        .application_name("gateway of a test");
    let size = PoolOptions::default().max_size(7);
    let pool = Pool::new(connect.clone(), size.clone()).unwrap();
    assert!(format!("{connect:?}").contains("gateway of a test"), "{connect:?}");
    for shown in [format!("{size:?}"), format!("{pool:?}")] {
        assert!(shown.contains("max_size: 7"), "{shown}");
    }
    for shown in [format!("{connect:?} {connect:#?}"), format!("{pool:?} {pool:#?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(!format!("{pool:?} {pool:#?}").contains("db.example"), "{pool:?}");
}

#[tokio::test]
async fn a_closed_pool_hands_nothing_out_and_closes_what_comes_back() {
    let db = TestDatabase::empty().await;
    let pool = db.pool(2);
    pool.health().await.unwrap();
    let mut conn = pool.get().await.unwrap();
    let in_use = pid(&mut conn).await;
    pool.close();
    for error in [pool.get().await.err().unwrap(), pool.health().await.unwrap_err()] {
        assert_eq!(error, Error::PoolClosed);
        assert!(!error.is_retryable());
    }
    assert_eq!(pid(&mut conn).await, in_use);
    drop(conn);
    until_gone(&mut db.connect().await, in_use).await;
}

#[tokio::test]
async fn health_says_that_the_server_is_gone() {
    let server = Server::start(&Binaries::find(|_| {}).unwrap()).unwrap();
    let connect = options(&server.url("postgres"));
    let pool = Pool::new(connect, PoolOptions::default().max_size(1)).unwrap();
    pool.health().await.unwrap();
    drop(server);
    // The connection that it had fails first, and then those that it tries to make.
    for _ in 0..3 {
        let error = pool.health().await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
    }
    let error = pool.get().await.err().unwrap();
    assert_eq!(transient(&error), Some(Transient::ConnectionLost), "{error:?}");
}

#[tokio::test]
async fn a_connection_is_used_again_without_a_round_trip() {
    let db = TestDatabase::empty().await;
    let (pool, watcher) = (db.pool(1), &mut db.connect().await);
    let mut conn = pool.get().await.unwrap();
    let backend = pid(&mut conn).await;
    conn.transaction(async |conn| raw(conn, "SELECT 1").await).await.unwrap();
    let refused = conn.transaction(async |conn| raw(conn, "SELECT 1 / 0").await).await;
    assert!(refused.is_err());
    raw(&mut conn, "SELECT 'last'").await.unwrap();
    drop(conn);

    let activity = format!(
        "SELECT concat_ws(' ', query, state, query_start, state_change) AS text
         FROM pg_stat_activity WHERE pid = {backend}"
    );
    let before = text(watcher, &activity).await;
    assert!(before.starts_with("SELECT 'last' idle "), "{before}");
    for _ in 0..3 {
        drop(pool.get().await.unwrap());
    }
    assert_eq!(text(watcher, &activity).await, before);
    assert_eq!(pid(&mut pool.get().await.unwrap()).await, backend);
}

/// Polls `future` until `reached`, and drops it then, which cancels it where it waits.
async fn cancel_once(reached: &AtomicBool, future: impl Future) {
    let mut future = pin!(future);
    poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending(), "it ended before it was cancelled");
        if reached.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn a_connection_left_inside_a_transaction_is_never_handed_out_again() {
    let db = TestDatabase::new().await;
    let (pool, watcher) = (db.pool(1), &mut db.connect().await);
    let mut conn = pool.get().await.unwrap();
    let cancelled = pid(&mut conn).await;
    let inserted = AtomicBool::new(false);
    let transaction = conn.transaction(async |conn| {
        raw(conn, INSERT).await?;
        inserted.store(true, Relaxed);
        pending::<diesel::QueryResult<()>>().await
    });
    cancel_once(&inserted, transaction).await;
    drop(conn);
    // It is closed at once, so that its locks are released.
    assert_eq!((pool.status().available, pool.status().size), (0, 0));
    until_gone(watcher, cancelled).await;

    let conn = &mut pool.get().await.unwrap();
    assert_ne!(pid(conn).await, cancelled);
    assert_eq!((experiments(conn).await, pool.status().size), (0, 1));
}

// The runtime has one thread, so that no statement is answered in the poll that sends it.
#[tokio::test]
async fn a_connection_cancelled_in_begin_commit_or_rollback_is_never_handed_out_again() {
    let db = TestDatabase::new().await;
    let (pool, watcher) = (db.pool(1), &mut db.connect().await);
    for stage in ["BEGIN", "COMMIT", "ROLLBACK"] {
        let mut conn = pool.get().await.unwrap();
        let cancelled = pid(&mut conn).await;
        let reached = AtomicBool::new(stage == "BEGIN");
        let transaction = conn.transaction(async |conn| {
            assert_ne!(stage, "BEGIN");
            raw(conn, INSERT).await?;
            reached.store(true, Relaxed);
            match stage {
                "COMMIT" => Ok(()),
                _ => Err(diesel::result::Error::RollbackTransaction),
            }
        });
        cancel_once(&reached, transaction).await;
        drop(conn);
        assert_ne!(pid(&mut pool.get().await.unwrap()).await, cancelled, "{stage}");
        until_gone(watcher, cancelled).await;
    }
    // A cancelled COMMIT may arrive or not.
    assert!(experiments(watcher).await <= 1);
}

#[tokio::test]
async fn a_query_cancelled_outside_a_transaction_does_not_answer_the_next() {
    let db = TestDatabase::empty().await;
    let pool = db.pool(1);
    let mut conn = pool.get().await.unwrap();
    assert!(number(&mut conn, "SELECT 41::bigint AS number").now_or_never().is_none());
    drop(conn);
    let conn = &mut pool.get().await.unwrap();
    assert_eq!(number(conn, "SELECT 42::bigint AS number").await, 42);
}

#[tokio::test]
async fn a_connection_that_the_server_ended_is_replaced() {
    let db = TestDatabase::empty().await;
    let (pool, watcher) = (db.pool(1), &mut db.connect().await);
    let ended = pid(&mut pool.get().await.unwrap()).await;
    raw(watcher, &format!("SELECT pg_terminate_backend({ended})")).await.unwrap();
    until_gone(watcher, ended).await;
    // The client may not have read the end yet. Then the error is retryable.
    eventually("the pool noticed", async || match pool.health().await {
        Ok(_) => true,
        Err(error) => {
            assert!(error.is_retryable(), "{error:?}");
            false
        }
    })
    .await;
    assert_ne!(pid(&mut pool.get().await.unwrap()).await, ended);
    assert_eq!(pool.status().size, 1);
}

#[tokio::test]
async fn a_connection_past_its_lifetime_is_replaced() {
    let db = TestDatabase::empty().await;
    let options = PoolOptions::default().max_size(1).max_lifetime(Duration::from_nanos(1));
    let pool = Pool::new(db.options(), options).unwrap();
    let first = pid(&mut pool.get().await.unwrap()).await;
    assert_ne!(pid(&mut pool.get().await.unwrap()).await, first);
    until_gone(&mut db.connect().await, first).await;
}

#[tokio::test]
async fn connections_that_were_idle_for_too_long_are_closed() {
    let db = TestDatabase::empty().await;
    let options = PoolOptions::default().max_size(3).idle_timeout(Duration::from_nanos(1));
    let pool = Pool::new(db.options(), options).unwrap();
    let conns = [pool.get().await.unwrap(), pool.get().await.unwrap(), pool.get().await.unwrap()];
    assert_eq!(pool.status().size, 3);
    drop(conns);
    let conn = pool.get().await.unwrap();
    assert_eq!((pool.status().size, pool.status().available), (1, 0));
    drop(conn);
}

#[tokio::test]
async fn health_says_whether_the_server_takes_writes() {
    let db = TestDatabase::empty().await;
    assert!(db.pool(1).health().await.unwrap().takes_writes);
    let read_only = option(&db.url(), "options=-c%20default_transaction_read_only%3Don");
    assert!(!pool(options(&read_only)).health().await.unwrap().takes_writes);
}

/// Has 10 seconds pass at once.
async fn advance() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(10)).await;
    tokio::time::resume();
}

/// Has the pool make three connections, which have answered. Returns their process ids.
async fn three_idle(pool: &Pool) -> Vec<i64> {
    let mut conns =
        [pool.get().await.unwrap(), pool.get().await.unwrap(), pool.get().await.unwrap()];
    let mut pids = Vec::new();
    for conn in &mut conns {
        pids.push(pid(conn).await);
    }
    pids
}

#[tokio::test]
async fn idle_connections_over_a_silent_network_are_closed_when_one_does_not_answer() {
    let db = TestDatabase::empty().await;
    let network = Network::to(&db.url()).await;
    let connect = options(&option(network.url(), "connect_timeout=1"));
    let recycle = PoolOptions::default().recycle_timeout(Duration::from_millis(50));
    let pool = Pool::new(connect, recycle).unwrap();
    let before = three_idle(&pool).await;
    network.silence();
    advance().await;
    // All are given up for the first one's silence, and a new one can't be made.
    let error = pool.get().await.err().unwrap();
    assert_eq!(transient(&error), Some(Transient::ConnectionLost), "{error:?}");
    assert_eq!(pool.status().size, 0);
    network.mend();
    assert!(!before.contains(&pid(&mut pool.get().await.unwrap()).await));
}

#[tokio::test]
async fn a_server_that_says_nothing_of_its_health_gets_no_statement_over_its_connections() {
    let db = TestDatabase::empty().await;
    let network = Network::to(&db.url()).await;
    let pool = Pool::new(options(network.url()), PoolOptions::default().max_size(3)).unwrap();
    let before = three_idle(&pool).await;
    network.silence();
    // The idle ones answered so recently that they wouldn't be asked.
    tokio::time::pause();
    pool.health().await.unwrap_err();
    tokio::time::resume();
    network.mend();
    let conn = &mut pool.get().await.unwrap();
    let now = tokio::time::timeout(Duration::from_secs(60), pid(conn)).await.unwrap();
    assert!(!before.contains(&now));
}

#[tokio::test]
async fn an_idle_connection_whose_server_answers_is_handed_out_again() {
    let db = TestDatabase::empty().await;
    let pool = db.pool(1);
    let before = pid(&mut pool.get().await.unwrap()).await;
    advance().await;
    assert_eq!(pid(&mut pool.get().await.unwrap()).await, before);
}

#[tokio::test]
async fn a_statement_over_a_silent_network_fails_and_its_connection_is_not_handed_out_again() {
    let db = TestDatabase::empty().await;
    let network = Network::to(&db.url()).await;
    let pool = Pool::new(options(network.url()), PoolOptions::default().max_size(1)).unwrap();
    let mut conn = pool.get().await.unwrap();
    let before = pid(&mut conn).await;
    network.silence();
    // Nothing else happens, so that time passes at once until the end of the statement.
    tokio::time::pause();
    let error = Error::from(raw(&mut conn, "SELECT 1").await.unwrap_err());
    tokio::time::resume();
    assert_eq!(transient(&error), Some(Transient::ConnectionLost), "{error:?}");
    drop(conn);
    assert_eq!(pool.status().size, 0);
    network.mend();
    assert_ne!(pid(&mut pool.get().await.unwrap()).await, before);
}

#[tokio::test]
async fn a_statement_without_a_timeout_ends_where_its_server_is_silent_and_not_where_it_is_slow() {
    let db = TestDatabase::empty().await;
    let network = Network::to(&db.url()).await;
    let connect = options(network.url()).statement_timeout(Duration::ZERO);
    let conn = &mut connect.connect().await.unwrap();
    let before = network.carried();
    let slow = async {
        let asked = raw(conn, "SELECT pg_sleep(0.3)");
        let (asked, ()) = tokio::join!(asked, advance());
        asked
    };
    slow.await.unwrap();
    eventually("the server is asked", async || {
        tokio::task::yield_now().await;
        network.carried() > before
    })
    .await;
    network.silence();
    tokio::time::pause();
    let error = Error::from(raw(conn, "SELECT 1").await.unwrap_err());
    assert_eq!(transient(&error), Some(Transient::ConnectionLost), "{error:?}");
}

#[tokio::test]
async fn a_slow_statement_within_its_limit_is_answered() {
    let db = TestDatabase::empty().await;
    let conn = &mut db.pool(1).get().await.unwrap();
    for _ in 0..3 {
        let asked = raw(conn, "SELECT pg_sleep(0.1)");
        let (asked, ()) = tokio::join!(asked, advance());
        asked.unwrap();
    }
}

#[tokio::test]
async fn health_answers_over_a_silent_network() {
    let db = TestDatabase::empty().await;
    let network = Network::to(&db.url()).await;
    let pool = Pool::new(options(network.url()), PoolOptions::default().max_size(2)).unwrap();
    pool.health().await.unwrap();
    network.silence();
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    for _ in 0..3 {
        let error = pool.health().await.unwrap_err();
        assert_eq!(transient(&error), Some(Transient::ConnectionLost), "{error:?}");
    }
    assert!(start.elapsed() <= 3 * Duration::from_secs(5), "{:?}", start.elapsed());
    tokio::time::resume();
    network.mend();
    eventually("the pool serves again", async || pool.health().await.is_ok()).await;
}
