//! A database whose encoding isn't UTF-8: everything works there, and a value that it can't hold is
//! refused for its own caller.

use crate::support::fixtures::{
    Recorded, active, draft, eventually, key, label, public_model_id, publish_now, record_new,
    recorded, request, setting, weight,
};
use crate::support::{TestDatabase, queries, repository};
use diesel_async::AsyncPgConnection;
use model_experiments::experiments::{
    self, ExperimentChanges, ExperimentFilter, NewExperiment, NewVersion,
};
use model_experiments::recording::{Outcome, Record, Usage, record};
use model_experiments::reports::overview;
use model_experiments::routing::{Route, Subject};
use model_experiments::values::Upstream;
use model_experiments::{
    Error, Page, Recorder, RecorderOptions, RoutingCache, RoutingOptions, migrations,
};
use serde_json::json;
use std::fmt::Debug;
use std::time::Duration;
use tokio::task::yield_now;

/// In LATIN1, unlike the euro's sign.
const DISTRIBUTE: &str = include_str!("../../../docs/distribute.sql");
const KNOWN: &str = "Größe";
const UNKNOWN: &str = "5 €";

async fn latin1() -> (TestDatabase, AsyncPgConnection) {
    let db = TestDatabase::latin1().await;
    assert!(!migrations::run(&db.options()).await.unwrap().is_empty());
    let mut conn = db.connect().await;
    assert_eq!(setting(&mut conn, "server_encoding").await, "LATIN1");
    (db, conn)
}

#[track_caller]
fn assert_unencodable<T: Debug>(outcome: Result<T, Error>) {
    match outcome {
        Err(error @ Error::Unencodable(_)) => {
            let text = error.to_string();
            assert!(text.contains("0xe2 0x82 0xac") && text.contains("LATIN1"), "{text}");
            assert!(!error.is_retryable());
        }
        outcome => panic!("{outcome:?}"),
    }
}

fn upstream(note: &str) -> Upstream {
    let upstream = json!({
        "internal_id": "control",
        "base_url": "https://partner.example/v1",
        "extra_body": {"note": note},
    });
    Upstream::from_json(upstream).unwrap()
}

#[tokio::test]
async fn all_operations_work_in_latin1() {
    let (db, mut conn) = latin1().await;
    let conn = &mut conn;
    let ready = active(conn, "partner/foo").await;
    let new = NewExperiment::new(public_model_id("partner/bar"), KNOWN);
    let created = experiments::create(conn, &new).await.unwrap();
    let found = experiments::find(conn, created.id).await.unwrap();
    assert_eq!(found.unwrap().name, KNOWN);
    let listed = experiments::list(conn, &ExperimentFilter::default(), Page::first(10)).await;
    assert_eq!(listed.unwrap().len(), 2);

    let variant = experiments::add_variant(conn, created.id, &label(KNOWN), weight(1)).await;
    let variant = variant.unwrap().id;
    let (latin, key) = (upstream(KNOWN), key("sk-1"));
    experiments::publish(conn, variant, NewVersion::with_key(&latin, &key)).await.unwrap();
    experiments::activate(conn, created.id).await.unwrap();
    let cache = RoutingCache::start(&db.options(), RoutingOptions::default()).await.unwrap();
    let Route::Serve(served) = cache.pick("partner/bar", Subject::user(KNOWN)) else {
        panic!("it isn't served")
    };
    assert_eq!(served.upstream().extra_body().unwrap()["note"], KNOWN);

    let usage = Usage::new(KNOWN);
    record_new(conn, &usage, &request(ready.control_version.id)).await;
    assert_eq!(recorded(conn).await, Recorded::both(1));
    experiments::pause(conn, created.id).await.unwrap();
    eventually("the cache sees the change", async || {
        yield_now().await;
        cache.pick("partner/bar", Subject::user(KNOWN)) == Route::Paused
    })
    .await;
    experiments::complete(conn, created.id).await.unwrap();
    let _ = overview::of_experiment(conn, ready.experiment.id).await.unwrap();
}

#[tokio::test]
async fn what_the_encoding_lacks_is_refused_by_each_operation() {
    let (_db, mut conn) = latin1().await;
    let conn = &mut conn;
    let id = draft(conn, "partner/foo").await.id;
    let variant = experiments::add_variant(conn, id, &label("control"), weight(1)).await.unwrap();
    let version = publish_now(conn, variant.id, "control").await.id;

    let new = NewExperiment::new(public_model_id("partner/bar"), UNKNOWN);
    assert_unencodable(experiments::create(conn, &new).await);
    let changes = ExperimentChanges::default().name(UNKNOWN);
    assert_unencodable(experiments::update(conn, id, &changes).await);
    assert_unencodable(experiments::add_variant(conn, id, &label(UNKNOWN), weight(1)).await);
    let (upstream, key) = (upstream(UNKNOWN), key("sk-1"));
    let new = NewVersion::with_key(&upstream, &key);
    assert_unencodable(experiments::publish(conn, variant.id, new).await);
    let refused = Record::new(Usage::new(UNKNOWN), request(version));
    assert_unencodable(record::one(conn, &refused).await);
    let fine = Record::new(Usage::new("user-1"), request(version));
    assert_unencodable(record::many(conn, &[fine.clone(), refused]).await);
    // The connection goes on, and nothing was written.
    assert_eq!(recorded(conn).await, Recorded::NONE);
    assert_eq!(record::one(conn, &fine).await, Ok(Outcome::Recorded));
}

#[tokio::test]
async fn a_recorder_answers_at_once_for_what_the_encoding_lacks() {
    for options in [RecorderOptions::default(), RecorderOptions::default().billing_first(true)] {
        let (db, mut conn) = latin1().await;
        let version = active(&mut conn, "partner/foo").await.control_version.id;
        // Deadlines are ten minutes away.
        let recorder = Recorder::start(&db.options(), options).await.unwrap();
        let users = ["a", UNKNOWN, "b", KNOWN, UNKNOWN, "c", "d", "e"];
        let receipts = users.map(|user| {
            let record = Record::new(Usage::new(user), request(version));
            recorder.try_submit(record).unwrap()
        });
        for (user, receipt) in users.into_iter().zip(receipts) {
            let end = receipt.await.map_err(Error::from);
            if user == UNKNOWN {
                assert_unencodable(end);
            } else {
                assert_eq!(end, Ok(Outcome::Recorded));
            }
        }
        assert_eq!(recorded(&mut conn).await, Recorded::both(6));
        assert_eq!(recorder.shutdown(Duration::from_secs(60)).await, []);
    }
}

/// A migration with another character can't be applied where the encoding lacks it.
#[test]
fn all_sql_is_ascii() {
    let migrations = repository::migrations();
    let files = std::fs::read_dir(queries::directory()).unwrap();
    let queries = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let texts: Vec<_> = migrations
        .into_iter()
        .flat_map(|of| [of.up, of.down])
        .chain(queries)
        .chain([DISTRIBUTE.to_owned()])
        .collect();
    assert!(texts.len() > 50, "{}", texts.len());
    for text in texts {
        let other = text.lines().find(|line| !line.is_ascii());
        assert_eq!(other, None);
    }
}
