//! Two processes that share the server connections of one pooler. Each names its prepared
//! statements `s0`, `s1` and so on.

use model_experiments::experiments::{self, ExperimentFilter, NewExperiment};
use model_experiments::recording::{self, Outcome, Record, Usage, record};
use model_experiments::values::VersionId;
use model_experiments::{Page, Pool, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;

use crate::pgbouncer::{Pgbouncer, Release};
use crate::poolers::pool;
use crate::process::{Worker, report};
use crate::support::fixtures::{
    Recorded, active, counts, label, public_model_id, recorded, request, weight,
};
use crate::support::{TestDatabase, options};

/// How long the processes work against each other.
const WORK: Duration = Duration::from_secs(20);

/// The longest statement. Where statements are mixed up, some are never answered.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a process saw.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Seen {
    rounds: i64,
    /// Reads that returned something else than what was written, by what was expected.
    wrong: BTreeMap<String, u64>,
    /// Operations that failed, by their error.
    failed: BTreeMap<String, u64>,
}

impl Seen {
    fn expect(&mut self, what: &str, holds: bool) {
        if !holds {
            *self.wrong.entry(what.to_owned()).or_default() += 1;
        }
    }

    fn expect_success(&mut self, outcome: Result<()>) {
        if let Err(error) = outcome {
            // The names of statements differ.
            let error = error.to_string().replace(|c: char| c.is_ascii_digit(), "");
            *self.failed.entry(error).or_default() += 1;
        }
    }
}

/// Starts two processes that work through `url`, and returns what each saw.
async fn work_against_each_other(url: &str, version: VersionId) -> [Seen; 2] {
    let start = |name: &str| {
        let variables = [
            ("POOLER_URL", url.to_owned()),
            ("VERSION", version.to_string()),
            ("NAME", name.into()),
        ];
        Worker::start(&[], "poolers::processes::worker", variables)
    };
    let workers = ["reads", "deletes"].map(start);
    spawn_blocking(|| workers.map(|worker| worker.wait(WORK + Duration::from_secs(60))))
        .await
        .unwrap()
}

/// One round: what is written is read again. The other process uses the server connection between.
async fn round(pool: &Pool, name: &str, version: VersionId, seen: &mut Seen) -> Result<()> {
    let conn = &mut pool.get().await?;
    let model = public_model_id(&format!("partner/{name}-{}", seen.rounds));
    let new = NewExperiment::new(model.clone(), name);
    let kept = experiments::create(conn, &new).await?;
    seen.rounds += 1;
    let found = experiments::find(conn, kept.id).await?;
    seen.expect("a draft is found as it was created", found.as_ref() == Some(&kept));
    let variant = experiments::add_variant(conn, kept.id, &label("a"), weight(1)).await?;
    let variants = experiments::list_variants(conn, kept.id).await?;
    seen.expect("a variant is listed as it was added", variants == [variant]);

    let usage = Usage::new(name);
    let record = Record::new(usage.clone(), request(version));
    let outcome = record::one(conn, &record).await?;
    seen.expect("a record is new", outcome == Outcome::Recorded);
    let found = recording::find_usage(conn, usage.id).await?;
    seen.expect("a usage is found as it was recorded", found == Some(usage));

    let filter = ExperimentFilter::default().public_model_id(model);
    let listed = experiments::list(conn, &filter, Page::first(9)).await?;
    seen.expect("one draft has the model", listed.len() == 1 && listed[0].id == kept.id);
    Ok(())
}

/// Creates a draft and deletes it.
async fn delete(pool: &Pool, name: &str, seen: &mut Seen) -> Result<()> {
    let conn = &mut pool.get().await?;
    let new = NewExperiment::new(public_model_id(&format!("partner/{name}")), name);
    let draft = experiments::create(conn, &new).await?;
    experiments::delete(conn, draft.id).await?;
    let found = experiments::find(conn, draft.id).await?;
    seen.expect("a deleted draft is gone", found.is_none());
    Ok(())
}

#[tokio::test]
#[ignore = "runs as a process that another test starts"]
async fn worker() {
    let Ok(url) = std::env::var("POOLER_URL") else { return };
    let name = std::env::var("NAME").unwrap();
    let version = VersionId::from(std::env::var("VERSION").unwrap().parse::<uuid::Uuid>().unwrap());
    let pool = pool(options(&url).statement_timeout(TIMEOUT), 2);
    let mut seen = Seen::default();
    let start = Instant::now();
    while start.elapsed() < WORK {
        // This process begins with other statements than the other, under the same names.
        if name == "deletes" {
            let deleted = delete(&pool, &name, &mut seen).await;
            seen.expect_success(deleted);
        }
        let done = round(&pool, &name, version, &mut seen).await;
        seen.expect_success(done);
    }
    report(&seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tracking_nothing_is_read_or_written_wrongly() {
    for size in ["default_pool_size = 1", "default_pool_size = 2"] {
        let database = TestDatabase::new().await;
        let conn = &mut database.connect().await;
        let version = active(conn, "partner/foo").await.control_version.id;
        let settings = ["pool_mode = transaction", size];
        let Some(pooler) = Pgbouncer::start(Release::Tracking, &database.url(), &settings) else {
            return;
        };
        let seen = work_against_each_other(&pooler.url(), version).await;
        println!("{size}: {seen:?}");
        let mut rounds = 0;
        for seen in seen {
            assert!(seen.wrong.is_empty() && seen.failed.is_empty(), "{seen:?}");
            assert!(seen.rounds > 20, "{seen:?}");
            rounds += seen.rounds;
        }
        assert_eq!(recorded(conn).await, Recorded::both(rounds));
        assert_eq!(counts(conn).await.experiments, 1 + rounds);
    }
}

/// What connecting refuses: without tracking, one process runs what the other prepared.
#[tokio::test(flavor = "multi_thread")]
async fn without_tracking_the_same_work_goes_wrong() {
    let database = TestDatabase::new().await;
    let conn = &mut database.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    // Two, so that each process can prepare the same name on one before they are exchanged.
    let settings = ["pool_mode = transaction", "default_pool_size = 2"];
    let Some(pooler) = Pgbouncer::start(Release::Untracking, &database.url(), &settings) else {
        return;
    };
    // The claim is false, and takes the check out.
    let seen = work_against_each_other(&pooler.session_url(), version).await;
    println!("{} experiments: {seen:#?}", counts(conn).await.experiments);
    // Where the parameters fit, what was read is wrong. Where they don't, the server says so.
    let wrong = seen.iter().flat_map(|seen| seen.wrong.values());
    let mismatched = seen
        .iter()
        .flat_map(|seen| &seen.failed)
        .filter_map(|(error, count)| error.contains("bind message supplies").then_some(count));
    assert!(wrong.chain(mismatched).sum::<u64>() > 0, "nobody ran another's statement: {seen:?}");
}
