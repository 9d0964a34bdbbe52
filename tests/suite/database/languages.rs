//! A server whose messages aren't English.

use crate::support::fixtures::{
    Recorded, active, eventually, pid, publish_now, raw, recorded, request,
};
use crate::support::postgres::{Binaries, Server};
use crate::support::{connect, german, options};
use diesel_async::AsyncPgConnection;
use model_experiments::recording::{Outcome, Record, Usage};
use model_experiments::routing::{Route, Subject};
use model_experiments::values::VersionId;
use model_experiments::{Recorder, RecorderOptions, RoutingCache, RoutingOptions, migrations};
use std::process::Command;
use std::time::Duration;
use tokio::task::yield_now;

fn record(version: VersionId) -> Record {
    Record::new(Usage::new("user-1"), request(version))
}

/// A connection, once the server takes one. What it says until then is retryable in any language.
async fn reconnected(url: &str) -> AsyncPgConnection {
    let mut conn = None;
    eventually("the server is up again", async || match connect(url).await {
        Ok(new) => {
            conn = Some(new);
            true
        }
        Err(error) => {
            assert!(error.is_retryable(), "{error:?}");
            false
        }
    })
    .await;
    conn.unwrap()
}

#[tokio::test]
async fn a_server_that_crashes_and_is_restarted_costs_a_recorder_and_a_cache_nothing() {
    let mut server = Server::durable(&Binaries::find(|_| {}).unwrap(), &[]).unwrap();
    let url = server.url("postgres");
    // A setting of the command line would keep a server from starting where there is no locale.
    let german = "ALTER SYSTEM SET lc_messages = 'de_DE.UTF-8'";
    let set = async {
        raw(&mut connect(&url).await.unwrap(), german).await.map_err(std::io::Error::other)?;
        raw(&mut connect(&url).await.unwrap(), "SELECT pg_reload_conf()").await.unwrap();
        german::require_german(&url).await
    };
    if let Err(error) = set.await {
        return german::skip(&error);
    }
    migrations::run(&options(&url)).await.unwrap();
    let conn = &mut connect(&url).await.unwrap();
    let ready = active(conn, "partner/foo").await;
    let version = ready.control_version.id;
    let recorder = Recorder::start(&options(&url), RecorderOptions::default()).await.unwrap();
    let polled = RoutingOptions::default().poll_interval(Duration::from_millis(20));
    let cache = RoutingCache::start(&options(&url), polled).await.unwrap();
    let served = |checkpoint: &str| {
        let route = cache.pick("partner/foo", Subject::user("user-1"));
        let Route::Serve(served) = route else { panic!("{route:?}") };
        served.upstream().internal_id() == checkpoint
    };

    for round in 1..=4 {
        let mut receipts: Vec<_> =
            (0..20).map(|_| recorder.try_submit(record(version)).unwrap()).collect();
        if round % 2 == 0 {
            server.kill().unwrap();
            server.restart().unwrap();
        } else {
            // The server ends all its processes when one of them is killed.
            let victim = pid(conn).await.to_string();
            let mut witness = connect(&url).await.unwrap();
            assert!(Command::new("kill").args(["-KILL", &victim]).status().unwrap().success());
            eventually("all are ended", async || raw(&mut witness, "SELECT 1").await.is_err())
                .await;
        }
        receipts.extend((0..20).map(|_| recorder.try_submit(record(version)).unwrap()));
        *conn = reconnected(&url).await;
        for receipt in receipts {
            // What was committed before the crash is found.
            let end = receipt.await;
            assert!(matches!(end, Ok(Outcome::Recorded | Outcome::AlreadyRecorded)), "{end:?}");
        }
        assert_eq!(recorded(conn).await, Recorded::both(40 * round));
        let checkpoint = format!("after crash {round}");
        for variant in [ready.control.id, ready.candidate.id] {
            publish_now(conn, variant, &checkpoint).await;
        }
        eventually("the cache sees the change", async || {
            yield_now().await;
            served(&checkpoint)
        })
        .await;
    }
    assert_eq!(recorder.shutdown(Duration::from_secs(60)).await, []);
}
