//! The privileges of `docs/privileges.md`: with all that it lists, each operation works, and
//! without any one of them the database refuses it.

use crate::support::TestDatabase;
use crate::support::fixtures::{
    Ready, Role, active, insert_usage, key, label, public_model_id, ready, record_new, request,
    upstream, weight,
};
use chrono::TimeDelta;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};
use model_experiments::experiments::{
    self, ExperimentChanges, ExperimentFilter, NewExperiment, NewVersion,
};
use model_experiments::recording::{self, Record, Usage, record};
use model_experiments::reports::{feedback, loss_ledger, overview, summary};
use model_experiments::{Error, Page, Result, routing};

const DOCUMENT: &str = include_str!("../../../docs/privileges.md");

/// The names of the document for all columns of a table, but for the key.
const COLUMNS: [(&str, &str); 5] = [
    (
        "EXPERIMENT",
        "id public_model_id name description status is_archived created_by_user_id created_at
         updated_at started_at ended_at",
    ),
    ("VARIANT", "id experiment_id label weight created_at updated_at"),
    ("VERSION", "id variant_id upstream effective_at created_by created_at"),
    (
        "USAGE",
        "id kilo_user_id cost input_tokens output_tokens cache_write_tokens cache_hit_tokens
         created_at provider model requested_model cache_discount has_error abuse_classification
         organization_id inference_provider project_id",
    ),
    (
        "REQUEST",
        "usage_id variant_version_id allocation_subject client_request_id system_prompt_sha256
         request_body_sha256 was_truncated created_at",
    ),
];

/// The operations of the document, each with its privileges, a column each.
fn documented() -> Vec<(&'static str, Vec<String>)> {
    let block = DOCUMENT.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let mut operations: Vec<(&str, Vec<String>)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("    "), operations.last_mut()) {
            (Some(privilege), Some((_, privileges))) => privileges.extend(of_columns(privilege)),
            _ => operations.push((line.strip_suffix(':').unwrap(), Vec::new())),
        }
    }
    operations
}

/// `SELECT (id) ON model_experiment` and so on, of `SELECT model_experiment: id …`.
fn of_columns(privilege: &str) -> Vec<String> {
    let (kind, table) = privilege.split_once(' ').unwrap();
    let Some((table, columns)) = table.split_once(": ") else {
        return vec![format!("{kind} ON {table}")];
    };
    let all =
        COLUMNS.iter().fold(columns.to_owned(), |columns, (name, all)| columns.replace(name, all));
    all.split_whitespace().map(|column| format!("{kind} ({column}) ON {table}")).collect()
}

/// What operations work on.
struct Rows {
    draft: Ready,
    active: Ready,
    /// A usage without a request, on the active experiment's public model id.
    lost: Usage,
    recorded: Record,
}

async fn rows(conn: &mut AsyncPgConnection) -> Rows {
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

/// Runs what the document calls `operation`.
async fn run(conn: &mut AsyncPgConnection, operation: &str, rows: &Rows) -> Result<()> {
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
            experiments::add_variant(conn, id, &label("new"), weight(1)).await?;
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

/// Runs an operation, and undoes it.
async fn tried(conn: &mut AsyncPgConnection, operation: &str, rows: &Rows) -> Result<()> {
    AnsiTransactionManager::begin_transaction(conn).await.unwrap();
    let outcome = run(conn, operation, rows).await;
    AnsiTransactionManager::rollback_transaction(conn).await.unwrap();
    outcome
}

#[tokio::test]
async fn each_operation_needs_what_is_documented_and_nothing_else() {
    let db = TestDatabase::new().await;
    let (owner, conn) = (&mut db.connect().await, &mut db.connect().await);
    let rows = rows(owner).await;
    let role = Role::new(owner, "GRANT USAGE ON SCHEMA public TO $role").await;
    role.assume(conn).await;
    let operations = documented();
    assert_eq!(operations.len(), 21);
    let mut withheld = 0;
    for (operation, privileges) in operations {
        for privilege in &privileges {
            role.sql(owner, &format!("GRANT {privilege} TO $role")).await;
        }
        let outcome = tried(conn, operation, &rows).await;
        assert_eq!(outcome, Ok(()), "{operation}");
        for privilege in &privileges {
            role.sql(owner, &format!("REVOKE {privilege} FROM $role")).await;
            match tried(conn, operation, &rows).await {
                Err(Error::Database(cause)) if cause.message().contains("permission denied") => {}
                outcome => panic!("{operation} without {privilege}: {outcome:?}"),
            }
            role.sql(owner, &format!("GRANT {privilege} TO $role")).await;
            withheld += 1;
        }
        for privilege in &privileges {
            role.sql(owner, &format!("REVOKE {privilege} FROM $role")).await;
        }
    }
    assert!(withheld > 250, "{withheld}");
    role.drop(owner).await;
}
