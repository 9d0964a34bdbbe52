//! Operations as calls of the crate.

use crate::experiments::model::answer::{Answer, Routed, Served};
use crate::experiments::model::known::{Known, TIE_KEY, key};
use crate::experiments::model::operations::{Moment, Operation};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use model_experiments::experiments::{
    self, ExperimentChanges, ExperimentFilter, NewExperiment, NewVersion, Version,
};
use model_experiments::recording::{self, NewRequest, Usage, record};
use model_experiments::reports::overview;
use model_experiments::routing::{self, Route, Subject};
use model_experiments::schema::{
    model_experiment as experiment, model_experiment_variant as variant,
    model_experiment_variant_version as version,
};
use model_experiments::values::{Status, Upstream, VariantId, VersionId};
use model_experiments::{Cursor, Error, Page, Result};
use uuid::Uuid;

use crate::support::fixtures::{insert_usage, label, record_one, upstream, weight};

/// More rows than there are.
const ALL: u16 = 1_000;

/// Who publishes.
pub const OPERATOR: &str = "operator";

pub async fn run(
    conn: &mut AsyncPgConnection,
    known: &Known,
    operation: Operation,
) -> Result<Answer> {
    use Operation as Op;
    Ok(match operation {
        Op::Create { model, name } => {
            let new = NewExperiment::new(known.model(model).clone(), name);
            Answer::Experiment(experiments::create(conn, &new).await?)
        }
        Op::Update { experiment, name, description, model } => {
            let mut changes = ExperimentChanges::default();
            if let Some(name) = name {
                changes = changes.name(name);
            }
            if let Some(description) = description {
                changes = changes.description(description.map(str::to_owned));
            }
            if let Some(model) = model {
                changes = changes.public_model_id(known.model(model).clone());
            }
            let id = known.experiment(experiment);
            Answer::Experiment(experiments::update(conn, id, &changes).await?)
        }
        Op::Activate(of) => {
            Answer::Experiment(experiments::activate(conn, known.experiment(of)).await?)
        }
        Op::Pause(of) => Answer::Experiment(experiments::pause(conn, known.experiment(of)).await?),
        Op::Complete(of) => {
            Answer::Experiment(experiments::complete(conn, known.experiment(of)).await?)
        }
        Op::Archive(of) => {
            Answer::Experiment(experiments::archive(conn, known.experiment(of)).await?)
        }
        Op::Unarchive(of) => {
            Answer::Experiment(experiments::unarchive(conn, known.experiment(of)).await?)
        }
        Op::Delete(of) => {
            experiments::delete(conn, known.experiment(of)).await?;
            Answer::Deleted
        }

        Op::AddVariant { experiment, label: text, weight: share } => {
            let id = known.experiment(experiment);
            let new = experiments::add_variant(conn, id, &label(text), weight(share)).await?;
            Answer::Variant(new)
        }
        Op::RemoveVariant(variant) => {
            experiments::remove_variant(conn, known.variant(variant)).await?;
            Answer::Deleted
        }
        Op::SetWeight { variant, weight: share } => {
            let id = known.variant(variant);
            Answer::Variant(experiments::set_weight(conn, id, weight(share)).await?)
        }
        Op::SetLabel { variant, label: text } => {
            let id = known.variant(variant);
            Answer::Variant(experiments::set_label(conn, id, &label(text)).await?)
        }

        Op::PublishNow { variant, upstream: name, key } => {
            let upstream = upstream(name);
            let new = new_version(&upstream, key);
            Answer::Version(experiments::publish(conn, known.variant(variant), new).await?)
        }
        Op::PublishAt { variant, upstream: name, key, at } => {
            let upstream = upstream(name);
            let new = new_version(&upstream, key).effective_at(known.moment(at));
            Answer::Version(experiments::publish(conn, known.variant(variant), new).await?)
        }
        Op::RotateKey { variant, key: number } => {
            let new = NewVersion::keeping_upstream(key(number)).created_by(OPERATOR);
            Answer::Version(experiments::publish(conn, known.variant(variant), new).await?)
        }
        Op::WriteTie(version) => Answer::Tie(write_tie(conn, known.version(version)).await?),

        Op::InsertUsage { usage, cost } => {
            let usage = Usage { cost, ..known.usage(usage).clone() };
            Answer::UsageInserted(insert_usage(conn, &usage).await)
        }
        Op::Record { usage, cost, version, subject } => {
            let usage = Usage { cost, ..known.usage(usage).clone() };
            let request = NewRequest::new(known.version(version), subject);
            Answer::Recorded(record_one(conn, &usage, &request).await?)
        }
        Op::Attribute { usage, version, subject } => {
            let request = NewRequest::new(known.version(version), subject);
            Answer::Recorded(record::attribute(conn, known.usage_id(usage), &request).await?)
        }
        Op::Replay(usage) => Answer::Replayed(match find_usage(conn, known, usage).await? {
            Some((usage, Some(Served { version, subject }))) => {
                let request = NewRequest::new(version, subject);
                Some(record_one(conn, &usage, &request).await?)
            }
            _ => None,
        }),

        Op::Route { model, user } => {
            let routed = routing::load(conn, known.model(model)).await?;
            let subject = Subject::user(user);
            Answer::Routed(Routed::from(match &routed {
                Some(routed) => routed.route(subject),
                None => Route::NotExperimented,
            }))
        }
        Op::FindCurrent { variant, at: Moment::Latest } => {
            let id = known.variant(variant);
            Answer::Current(experiments::find_current_version(conn, id).await?)
        }
        Op::FindCurrent { variant, at } => {
            let (id, at) = (known.variant(variant), known.moment(at));
            Answer::Current(experiments::find_version_at(conn, id, at).await?)
        }
        Op::ListCurrent { experiment, at: Moment::Latest } => {
            let id = known.experiment(experiment);
            Answer::CurrentVersions(experiments::list_current_versions(conn, id).await?)
        }
        Op::ListCurrent { experiment, at } => {
            let (id, at) = (known.experiment(experiment), known.moment(at));
            Answer::CurrentVersions(experiments::list_versions_at(conn, id, at).await?)
        }
        Op::FindOverview { experiment } => {
            let id = known.experiment(experiment);
            let overview = overview::of_experiment(conn, id).await?;
            let variants = overview.variants.into_iter().map(|of| (of.variant, of.current));
            Answer::Overview(overview.experiment, variants.collect())
        }
        Op::ReadHistory { variant, page } => {
            Answer::History(read_history(conn, known.variant(variant), page).await?)
        }
        Op::List { model, status, include_archived, until } => {
            let mut filter =
                ExperimentFilter::default().public_model_id(known.model(model).clone());
            if let Some(status) = status {
                filter = filter.status(status);
            }
            if include_archived {
                filter = filter.include_archived();
            }
            let cursor = Cursor { at: known.moment(until), id: Uuid::max().into() };
            Answer::Experiments(experiments::list(conn, &filter, Page::after(cursor, ALL)).await?)
        }
        Op::FindUsage(usage) => Answer::Usage(find_usage(conn, known, usage).await?),
    })
}

fn new_version<'a>(upstream: &'a Upstream, number: Option<usize>) -> NewVersion<'a> {
    match number {
        Some(number) => NewVersion::with_key(upstream, key(number)),
        None => NewVersion::keeping_key(upstream),
    }
    .created_by(OPERATOR)
}

/// Inserts a version that is effective at the instant of `id`, if that one is scheduled.
#[expect(clippy::disallowed_methods, reason = "another writer writes without the API")]
async fn write_tie(conn: &mut AsyncPgConnection, id: VersionId) -> Result<Option<Version>> {
    let scheduled = version::table
        .inner_join(variant::table.inner_join(experiment::table))
        .filter(version::id.eq(id))
        .filter(version::effective_at.gt(diesel::dsl::now))
        .filter(experiment::status.ne(Status::Completed))
        .select((
            version::variant_id,
            upstream("tie").into_sql::<diesel::sql_types::Jsonb>(),
            key(TIE_KEY).into_sql::<diesel::sql_types::Jsonb>(),
            version::effective_at,
        ));
    let inserted = scheduled
        .insert_into(version::table)
        .into_columns((
            version::variant_id,
            version::upstream,
            version::encrypted_api_key,
            version::effective_at,
        ))
        .returning(Version::as_returning())
        .get_result(conn)
        .await
        .optional()?;
    Ok(inserted)
}

async fn find_usage(
    conn: &mut AsyncPgConnection,
    known: &Known,
    number: usize,
) -> Result<Option<(Usage, Option<Served>)>> {
    let id = known.usage_id(number);
    let Some(usage) = recording::find_usage(conn, id).await? else { return Ok(None) };
    let request = recording::find_request(conn, id).await?;
    if let Some(request) = &request {
        assert_eq!(request.created_at, usage.created_at);
    }
    let served = request.map(|request| Served {
        version: request.variant_version_id,
        subject: request.allocation_subject,
    });
    Ok(Some((usage, served)))
}

async fn read_history(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    size: u16,
) -> Result<Vec<Version>, Error> {
    let mut whole = Vec::new();
    let mut page = Page::first(size);
    loop {
        let rows = experiments::list_versions(conn, variant, page).await?;
        let Some(last) = rows.last() else { return Ok(whole) };
        page = Page::after(last.cursor(), size);
        whole.extend(rows);
    }
}
