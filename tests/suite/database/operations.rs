//! Every operation, by the name that `docs/privileges.md` gives it.

use crate::support::fixtures::{
    Ready, active, insert_usage, key, label, public_model_id, ready, record_new, request, upstream,
    weight,
};
use chrono::TimeDelta;
use diesel_async::AsyncPgConnection;
use model_experiments::experiments::{
    self, ExperimentChanges, ExperimentFilter, NewExperiment, NewVersion,
};
use model_experiments::recording::{self, Record, Usage, record};
use model_experiments::reports::{feedback, loss_ledger, overview, summary};
use model_experiments::{Page, Result, routing};

/// What operations work on.
pub struct Rows {
    pub draft: Ready,
    pub active: Ready,
    /// A usage without a request, on the active experiment's public model id.
    pub lost: Usage,
    pub recorded: Record,
}

pub async fn rows(conn: &mut AsyncPgConnection) -> Rows {
    let draft = ready(conn, "partner/draft").await;
    let active = active(conn, "partner/active").await;
    let requested_model = Some("partner/active".to_owned());
    let lost = Usage { requested_model, ..Usage::new("user-1") };
    assert!(insert_usage(conn, &lost).await);
    let request = request(active.control_version.id).client_request_id("client-1");
    let recorded = Record::new(Usage::new("user-1"), request);
    record_new(conn, &recorded.usage, &recorded.request).await;
    Rows { draft, active, lost, recorded }
}

/// Runs what `docs/privileges.md` calls `operation`.
pub async fn run(conn: &mut AsyncPgConnection, operation: &str, rows: &Rows) -> Result<()> {
    let Rows { draft, active, lost, recorded } = rows;
    let (id, variant) = (draft.experiment.id, draft.control.id);
    let (new, key, all) = (upstream("rc2"), key("sk-2"), ExperimentFilter::default());
    let window = lost.created_at - TimeDelta::hours(1)..lost.created_at + TimeDelta::hours(1);
    match operation {
        "create" => {
            let new = NewExperiment::new(public_model_id("partner/new"), "new");
            experiments::create(conn, &new).await?;
        }
        "find and list experiments" => {
            experiments::find(conn, id).await?;
            experiments::list(conn, &all, Page::first(9)).await?;
        }
        "update" => {
            let renamed = ExperimentChanges::default().name("renamed");
            experiments::update(conn, id, &renamed).await?;
        }
        "add_variant" => {
            experiments::add_variant(conn, id, &label("added"), weight(1)).await?;
        }
        "remove_variant" => experiments::remove_variant(conn, variant).await?,
        "set_weight" => drop(experiments::set_weight(conn, variant, weight(9)).await?),
        "set_label" => drop(experiments::set_label(conn, variant, &label("new")).await?),
        "publish with a key, and rotate_key" => {
            experiments::publish(conn, variant, NewVersion::with_key(&new, &key)).await?;
            experiments::rotate_key(conn, variant, &key).await?;
        }
        "publish and keep the key" => {
            experiments::publish(conn, variant, NewVersion::keeping_key(&new)).await?;
        }
        "activate" => drop(experiments::activate(conn, id).await?),
        "pause" => drop(experiments::pause(conn, active.experiment.id).await?),
        "complete" => drop(experiments::complete(conn, active.experiment.id).await?),
        "archive and unarchive" => {
            experiments::archive(conn, id).await?;
            experiments::unarchive(conn, id).await?;
        }
        "delete" => experiments::delete(conn, id).await?,
        "read variants and versions" => {
            experiments::list_variants(conn, id).await?;
            experiments::find_current_version(conn, variant).await?;
            experiments::list_current_versions(conn, id).await?;
            experiments::list_versions(conn, variant, Page::first(9)).await?;
        }
        "route, and keep a cache" => {
            routing::load(conn, &active.experiment.public_model_id).await?;
            routing::load_all(conn).await?;
        }
        "record and attribute" => {
            let new = || Record::new(Usage::new("user-1"), recorded.request.clone());
            let _recorded = record::one(conn, &new()).await?;
            for outcome in record::many(conn, &[new(), recorded.clone()]).await? {
                let _recorded = outcome?;
            }
            for outcome in record::usages(conn, &[new().usage]).await? {
                let _recorded = outcome?;
            }
            let _recorded = record::attribute(conn, lost.id, &recorded.request).await?;
            let _repeated = record::one(conn, recorded).await?;
            recording::find_request(conn, lost.id).await?;
        }
        "overview" => drop(overview::of_experiment(conn, id).await?),
        "feedback" => drop(feedback::served_by(conn, &["client-1"]).await?),
        "loss ledger" => {
            let id = active.experiment.id;
            let page = Page::first(9);
            assert_eq!(loss_ledger::list(conn, id, &window, page).await?.len(), 1);
        }
        "summary" => {
            let id = active.experiment.id;
            assert_eq!(summary::by_version(conn, id, &window).await?.len(), 1);
            assert_eq!(summary::by_version_and_subject(conn, id, &window).await?.len(), 1);
        }
        unknown => panic!("the document lists an operation {unknown}"),
    }
    Ok(())
}
