//! Every operation of the API.

use chrono::TimeDelta;
use model_experiments::experiments::{
    self, ExperimentChanges, ExperimentFilter, NewExperiment, NewVersion,
};
use model_experiments::recording::{self, Outcome, Record, Usage, record};
use model_experiments::reports::{feedback, loss_ledger, overview, summary};
use model_experiments::values::{ExperimentId, Status};
use model_experiments::{AsyncPgConnection, Page, Result, routing};

use crate::support::fixtures::{
    insert_usage, key, label, public_model_id, request, upstream, weight,
};

/// A whole life of an experiment of `model`, with what it records and reports.
pub async fn run_all(conn: &mut AsyncPgConnection, model: &str) -> Result<()> {
    let id = build(conn, model).await?;
    experiments::activate(conn, id).await?;
    serve(conn, model, id).await?;
    let paused = experiments::pause(conn, id).await?;
    assert_eq!(paused.status, Status::Paused);
    experiments::activate(conn, id).await?;
    let completed = experiments::complete(conn, id).await?;
    assert_eq!(completed.status, Status::Completed);
    assert!(experiments::archive(conn, id).await?.is_archived);
    assert!(!experiments::unarchive(conn, id).await?.is_archived);
    let again = NewExperiment::new(public_model_id(model), "again");
    let again = experiments::create(conn, &again).await?.id;
    experiments::delete(conn, again).await?;
    assert_eq!(experiments::find(conn, again).await?, None);
    assert!(experiments::find(conn, id).await?.is_some());
    Ok(())
}

/// Builds a draft that lacks nothing.
async fn build(conn: &mut AsyncPgConnection, model: &str) -> Result<ExperimentId> {
    let new = NewExperiment::new(public_model_id(model), "new");
    let id = experiments::create(conn, &new).await?.id;
    let renamed = ExperimentChanges::default().name("renamed");
    experiments::update(conn, id, &renamed).await?;
    let found = experiments::find(conn, id).await?.unwrap();
    assert_eq!(found.name, "renamed");
    let listed = ExperimentFilter::default().public_model_id(public_model_id(model));
    let listed = experiments::list(conn, &listed, Page::first(9)).await?;
    assert_eq!(listed, [found]);
    for name in ["control", "candidate", "superfluous"] {
        let (label, weight) = (label(name), weight(1));
        experiments::add_variant(conn, id, &label, weight).await?;
    }
    let variants = experiments::list_variants(conn, id).await?;
    let (control, candidate) = (variants[0].id, variants[1].id);
    experiments::remove_variant(conn, variants[2].id).await?;
    experiments::set_weight(conn, candidate, weight(3)).await?;
    experiments::set_label(conn, candidate, &label("other")).await?;
    let other = experiments::find_variant(conn, candidate).await?.unwrap();
    assert_eq!((other.label, other.weight), (label("other"), weight(3)));
    let (upstream, key) = (upstream("rc1"), key("sk-1"));
    for variant in [control, candidate] {
        let new = NewVersion::with_key(&upstream, &key);
        let first = experiments::publish(conn, variant, new).await?;
        let new = NewVersion::keeping_key(&upstream);
        experiments::publish(conn, variant, new).await?;
        let last = experiments::rotate_key(conn, variant, &key).await?;
        let current = experiments::find_current_version(conn, variant).await?;
        assert_eq!(current, Some(last));
        let page = Page::first(9);
        let versions = experiments::list_versions(conn, variant, page).await?;
        assert_eq!(versions.len(), 3);
        let found = experiments::find_version(conn, first.id).await?;
        assert_eq!(found, Some(first));
    }
    let current = experiments::list_current_versions(conn, id).await?;
    assert!(current.len() == 2 && current.iter().all(|(_, version)| version.is_some()));
    Ok(id)
}

/// Routes, records, and reads the reports.
async fn serve(conn: &mut AsyncPgConnection, model: &str, id: ExperimentId) -> Result<()> {
    let routed = routing::load(conn, &public_model_id(model)).await?;
    assert_eq!(routed.unwrap().id(), id);
    assert!(routing::load_all(conn).await?.contains_key(model));
    let current = experiments::list_current_versions(conn, id).await?;
    let version = current[0].1.as_ref().unwrap().id;
    let request = request(version).client_request_id(model);
    let new = || Record::new(Usage::new("user-1"), request.clone());

    let one = new();
    assert_eq!(record::one(conn, &one).await?, Outcome::Recorded);
    assert_eq!(record::one(conn, &one).await?, Outcome::AlreadyRecorded);
    for outcome in record::many(conn, &[new(), new()]).await? {
        assert_eq!(outcome?, Outcome::Recorded);
    }
    let requested_model = Some(model.to_owned());
    let lost = Usage { requested_model: requested_model.clone(), ..Usage::new("user-1") };
    assert!(insert_usage(conn, &lost).await);
    let window = lost.created_at - TimeDelta::hours(1)..lost.created_at + TimeDelta::hours(1);
    let page = Page::first(9);
    let ledger = loss_ledger::list(conn, id, &window, page).await?;
    assert_eq!(ledger, std::slice::from_ref(&lost));
    let billed = Usage { requested_model, ..Usage::new("user-2") };
    for outcome in record::usages(conn, &[&billed]).await? {
        assert_eq!(outcome?, Outcome::Recorded);
    }
    let attributed = record::attribute(conn, lost.id, &request).await?;
    assert_eq!(attributed, Outcome::Recorded);
    let requests = [(billed.id, &request)];
    for outcome in record::attribute_many(conn, &requests).await? {
        assert_eq!(outcome?, Outcome::Recorded);
    }
    assert_eq!(recording::find_usage(conn, lost.id).await?, Some(lost.clone()));
    assert!(recording::find_request(conn, lost.id).await?.is_some());
    let requests = recording::list_requests(conn, model).await?;
    assert_eq!(requests.len(), 5);

    let summary = summary::by_version(conn, id, &window).await?;
    assert_eq!(summary[0].distinct_users, 2);
    summary::by_version_and_subject(conn, id, &window).await?;
    overview::of_experiment(conn, id).await?;
    assert_eq!(feedback::served_by(conn, &[model]).await?.len(), 5);
    Ok(())
}
