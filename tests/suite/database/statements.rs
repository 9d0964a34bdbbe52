//! Prepared statements: every query is one, and its plan doesn't depend on its binds.

use crate::support::fixtures::{
    self, Recorded, active, draft, guard, insert_usage, label, public_model_id, publish_now, raw,
    ready, record_one, recorded, request, text, unguard, upstream, weight,
};
use crate::support::{TestDatabase, queries};
use chrono::Duration;
use model_experiments::experiments::{self, ExperimentChanges, ExperimentFilter, NewVersion};
use model_experiments::recording::{self, Outcome, Record, Usage, record};
use model_experiments::reports::{feedback, loss_ledger, overview, summary};
use model_experiments::values::{Status, Timestamp};
use model_experiments::{Error, Page, routing};
use std::collections::BTreeSet;

const RUNS: usize = 20;

/// The snapshots of the registered queries, except those that run on connections of their own: the
/// queries of migrations and pools, and those that only recorders and routing caches run.
fn reviewed() -> BTreeSet<String> {
    std::fs::read_dir(queries::directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            let of_caches = [
                "routing.query.list_fingerprints_query.sql",
                "routing.query.list_some_query.sql",
                "routing.query.list_statuses_query.sql",
            ];
            !name.starts_with("database.") && !of_caches.contains(&name)
        })
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

#[tokio::test]
async fn each_query_is_prepared_once_and_planned_once() {
    let db = TestDatabase::new().await;
    let (conn, host) = (&mut db.connect().await, &mut db.connect().await);
    let foo = active(conn, "partner/foo").await;
    let id = foo.experiment.id;
    let model = public_model_id("partner/foo");
    let (new, key) = (upstream("rc2"), fixtures::key("sk-2"));

    // A long history, with the planner's statistics.
    unguard(conn).await;
    raw(
        conn,
        "INSERT INTO model_experiment_variant_version (variant_id, upstream, encrypted_api_key, effective_at)
         SELECT variant_id, upstream, encrypted_api_key, effective_at - age * interval '1 minute'
         FROM model_experiment_variant_version, generate_series(1, 2000) AS age;
         ANALYZE",
    )
    .await
    .unwrap();
    guard(conn).await;

    for run in 0..RUNS {
        let now = Timestamp::now();
        let window = now - Duration::days(1)..now + Duration::days(1);

        // The life of another experiment, with every change of its structure.
        let other = ready(conn, "partner/other").await;
        let renamed = ExperimentChanges::default().name("Bar");
        experiments::update(conn, other.experiment.id, &renamed).await.unwrap();
        let changed = renamed
            .public_model_id(public_model_id("partner/bar"))
            .description(Some("Which is it?".to_owned()));
        experiments::update(conn, other.experiment.id, &changed).await.unwrap();
        experiments::set_weight(conn, other.control.id, weight(7)).await.unwrap();
        experiments::set_label(conn, other.control.id, &label("renamed")).await.unwrap();
        experiments::remove_variant(conn, other.control.id).await.unwrap();
        experiments::activate(conn, other.experiment.id).await.unwrap();
        experiments::pause(conn, other.experiment.id).await.unwrap();
        experiments::activate(conn, other.experiment.id).await.unwrap();
        raw(host, "BEGIN; SELECT FROM model_experiment FOR UPDATE").await.unwrap();
        raw(conn, "SET lock_timeout = 1").await.unwrap();
        let locked = experiments::pause(conn, other.experiment.id).await;
        assert!(matches!(locked, Err(Error::Locked { holder: Some(_), .. })), "{locked:?}");
        raw(conn, "RESET lock_timeout").await.unwrap();
        raw(host, "ROLLBACK").await.unwrap();
        experiments::complete(conn, other.experiment.id).await.unwrap();
        experiments::archive(conn, other.experiment.id).await.unwrap();
        let doomed = draft(conn, "partner/doomed").await.id;
        experiments::delete(conn, doomed).await.unwrap();

        publish_now(conn, foo.control.id, "rc3").await;
        experiments::publish(conn, foo.control.id, NewVersion::keeping_key(&new)).await.unwrap();
        let tomorrow = now + Duration::days(1);
        let scheduled = NewVersion::keeping_key(&new).effective_at(tomorrow);
        experiments::publish(conn, foo.control.id, scheduled).await.unwrap();
        let version = publish_now(conn, foo.control.id, "rc4").await.id;
        assert!(experiments::find_version(conn, version).await.unwrap().is_some());
        experiments::rotate_key(conn, foo.control.id, &key).await.unwrap();

        let usage = Usage::new("user-1");
        let new_request =
            request(foo.control_version.id).client_request_id(format!("client-{run}"));
        for expected in [Outcome::Recorded, Outcome::AlreadyRecorded] {
            assert_eq!(record_one(conn, &usage, &new_request).await, Ok(expected));
        }
        assert!(record::attribute(conn, usage.id, &new_request).await.is_ok());
        let several = [(); 2].map(|()| Usage::new("user-1"));
        assert!(record::usages(conn, &several).await.is_ok());
        let new_request = request(foo.control_version.id);
        let requests = several.each_ref().map(|usage| (usage.id, &new_request));
        assert!(record::attribute_many(conn, &requests).await.is_ok());
        let records = [(); 2].map(|()| Record::new(Usage::new("user-1"), new_request.clone()));
        assert!(record::many(conn, &records).await.is_ok());

        assert!(experiments::find(conn, id).await.unwrap().is_some());
        assert!(experiments::find_variant(conn, foo.control.id).await.unwrap().is_some());
        let all = ExperimentFilter::default();
        let page = experiments::list(conn, &all, Page::first(1)).await.unwrap();
        let next = Page::after(page.first().unwrap().cursor(), 1);
        experiments::list(conn, &all, next).await.unwrap();
        for filter in [
            ExperimentFilter::default().include_archived(),
            ExperimentFilter::default().status(Status::Active),
            ExperimentFilter::default().public_model_id(model.clone()),
        ] {
            let page = experiments::list(conn, &filter, Page::first(1)).await.unwrap();
            assert_eq!(page.len(), 1);
        }
        assert_eq!(experiments::list_variants(conn, id).await.unwrap().len(), 2);
        assert!(
            experiments::find_version_at(conn, foo.control.id, now).await.unwrap().is_some()
                && experiments::find_current_version(conn, foo.control.id).await.unwrap().is_some()
        );
        assert_eq!(experiments::list_versions_at(conn, id, now).await.unwrap().len(), 2);
        assert_eq!(experiments::list_current_versions(conn, id).await.unwrap().len(), 2);
        let page = experiments::list_versions(conn, foo.control.id, Page::first(1)).await.unwrap();
        let next = Page::after(page.first().unwrap().cursor(), 1);
        assert_eq!(experiments::list_versions(conn, foo.control.id, next).await.unwrap().len(), 1);
        assert!(recording::find_usage(conn, usage.id).await.unwrap().is_some());
        assert!(recording::find_request(conn, usage.id).await.unwrap().is_some());
        let client = format!("client-{run}");
        assert_eq!(recording::list_requests(conn, &client).await.unwrap().len(), 1);
        let clients = [client.as_str(), "a", "b", "c", "d", "e", "f", "g", "h", "i"];
        assert_eq!(feedback::served_by(conn, &clients).await.unwrap().len(), 1);
        let lost = Usage { requested_model: Some(model.to_string()), ..Usage::new("user-1") };
        assert!(insert_usage(host, &lost).await);
        let page = loss_ledger::list(conn, id, &window, Page::first(1)).await.unwrap();
        let next = Page::after(page.first().unwrap().cursor(), 1);
        let next = loss_ledger::list(conn, id, &window, next).await.unwrap();
        assert_eq!(next.len(), run.min(1));
        assert_eq!(summary::by_version(conn, id, &window).await.unwrap().len(), 1);
        assert_eq!(summary::by_version_and_subject(conn, id, &window).await.unwrap().len(), 1);
        assert_eq!(overview::of_experiment(conn, id).await.unwrap().variants.len(), 2);
        assert!(routing::load(conn, &model).await.unwrap().is_some());
        assert_eq!(routing::load_all(conn).await.unwrap().len(), 1);
    }
    assert_eq!(recorded(conn).await, Recorded { usages: 120, requests: 100 });

    // The test's own queries aren't counted, nor the `SET` of a connection.
    let statements =
        "FROM pg_prepared_statements WHERE statement ~ '^[(]?(SELECT|INSERT|UPDATE|DELETE|WITH)'
        AND statement !~ ' AS (number|text) FROM '";
    let texts =
        format!("SELECT string_agg(statement, E'\n' ORDER BY statement) AS text {statements}");
    let texts = text(conn, &texts).await;
    let prepared: BTreeSet<_> = texts.lines().map(queries::formatted).collect();
    assert_eq!(prepared.len(), texts.lines().count(), "a statement is prepared more than once");
    let reviewed = reviewed();
    let unreviewed: Vec<_> = prepared.difference(&reviewed).collect();
    assert_eq!(unreviewed, [""; 0], "a query that isn't registered");
    let unused: Vec<_> = reviewed.difference(&prepared).collect();
    assert_eq!(unused, [""; 0], "a query that nothing runs");

    // A page's limit is a bind, for whose value the planner may prefer a custom plan.
    let replanned = format!(
        "SELECT coalesce(string_agg(
            format('%s generic and %s custom plans of %s', generic_plans, custom_plans, statement), E'\n'
        ), '') AS text {statements} AND statement !~ 'LIMIT [$]' AND (generic_plans = 0 OR custom_plans > 5)"
    );
    assert_eq!(text(conn, &replanned).await, "");
}
