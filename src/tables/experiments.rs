//! Experiments: their rows, and the queries that find, list and change them.

use derive_setters::Setters;
use diesel::dsl::{self, auto_type};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::schema::model_experiment as experiment;
use crate::sql::functions::{greatest, statement_timestamp};
use crate::sql::kept::Kept;
use crate::sql::literals::StatusLiteral;
use crate::sql::locks::{locked_experiment, pg_locks};
use crate::sql::page::{Cursor, Page};
use crate::sql::run::Returns;
use crate::values::{ExperimentId, InvalidValue, PublicModelId, Status, Timestamp, storable};

/// An A/B test that swaps the upstream checkpoint behind one public model id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Queryable, Selectable)]
#[diesel(table_name = experiment, check_for_backend(Pg))]
#[non_exhaustive]
pub struct Experiment {
    /// Identifies the experiment.
    pub id: ExperimentId,
    /// The model id that clients ask for.
    pub public_model_id: PublicModelId,
    /// The name for operators.
    pub name: String,
    /// The question that the experiment answers.
    pub description: Option<String>,
    /// The status.
    pub status: Status,
    /// Whether the experiment is hidden from lists; never affects routing.
    pub is_archived: bool,
    /// The host's user who created the experiment.
    pub created_by_user_id: Option<String>,
    /// The instant of creation.
    pub created_at: Timestamp,
    /// The instant of the last change.
    pub updated_at: Timestamp,
    /// The instant of the first activation.
    pub started_at: Option<Timestamp>,
    /// The instant of completion.
    pub ended_at: Option<Timestamp>,
}

impl Experiment {
    /// Where the experiment stands in a [`list`].
    pub fn cursor(&self) -> Cursor<ExperimentId> {
        Cursor { at: self.created_at, id: self.id }
    }
}

/// An experiment to create. It begins as a draft.
#[derive(Debug, Clone, Insertable, Setters)]
#[diesel(table_name = experiment, treat_none_as_default_value = false)]
#[setters(into, strip_option)]
#[must_use]
pub struct NewExperiment {
    #[setters(skip)]
    public_model_id: PublicModelId,
    #[setters(skip)]
    name: String,
    /// The question that the experiment answers.
    description: Option<String>,
    /// The host's user who creates it.
    #[setters(rename = "created_by")]
    created_by_user_id: Option<String>,
}

impl NewExperiment {
    /// An experiment on `public_model_id`. The name and the other texts are at most 65,536 bytes
    /// long.
    pub fn new(public_model_id: PublicModelId, name: impl Into<String>) -> Self {
        Self { public_model_id, name: name.into(), description: None, created_by_user_id: None }
    }

    pub(crate) fn public_model_id(&self) -> &PublicModelId {
        &self.public_model_id
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        check_name(&self.name)?;
        storable("description", self.description.as_deref().unwrap_or_default())?;
        storable("created_by_user_id", self.created_by_user_id.as_deref().unwrap_or_default())
    }
}

/// The columns of an experiment to change. The default changes none.
#[derive(Debug, Clone, Default, AsChangeset, Setters)]
#[diesel(table_name = experiment)]
#[setters(strip_option)]
#[must_use]
pub struct ExperimentChanges {
    /// The public model id, which only a draft may change.
    public_model_id: Option<PublicModelId>,
    /// The name, at most 65,536 bytes.
    #[setters(into)]
    name: Option<String>,
    /// The description, at most 65,536 bytes. `None` removes it.
    description: Option<Option<String>>,
}

impl ExperimentChanges {
    /// Whether they change the public model id of `experiment`.
    pub(crate) fn change_public_model_id(&self, experiment: &Experiment) -> bool {
        self.public_model_id.as_ref().is_some_and(|id| *id != experiment.public_model_id)
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        if let Some(name) = &self.name {
            check_name(name)?;
        }
        storable("description", self.description.as_ref().and_then(Option::as_deref).unwrap_or(""))
    }
}

/// The experiments to list. The default is all that aren't archived.
#[derive(Debug, Clone, Default, Setters)]
#[setters(strip_option)]
#[must_use]
pub struct ExperimentFilter {
    /// Only those with this status.
    status: Option<Status>,
    /// Only those on this public model id.
    public_model_id: Option<PublicModelId>,
    /// Archived ones too.
    #[setters(bool)]
    include_archived: bool,
}

fn check_name(name: &str) -> Result<(), InvalidValue> {
    if name.is_empty() {
        return Err(InvalidValue::new("name", "must not be empty"));
    }
    storable("name", name)
}

fn find_query(id: ExperimentId) -> impl Returns<Experiment> {
    experiment::table.find(id).select(Experiment::as_select())
}

fn lock_query(id: ExperimentId) -> impl Returns<Experiment> {
    experiment::table.find(id).select(Experiment::as_select()).for_update()
}

/// A transaction that has locked or changed a row holds the lock on its own id until it ends.
fn lock_holder_query(id: ExperimentId) -> impl Returns<Option<i32>> {
    let locker = locked_experiment::table.find(id).select(locked_experiment::xmax.nullable());
    pg_locks::table
        .filter(pg_locks::locktype.eq("transactionid"))
        .filter(pg_locks::granted)
        .filter(pg_locks::transactionid.eq_any(locker))
        .select(pg_locks::pid)
}

/// Whether an experiment is routed.
///
/// The statuses are literals: for a bind, the planner can't prove that the partial unique index
/// applies.
#[auto_type]
pub(crate) fn is_routed() -> _ {
    let active: StatusLiteral = StatusLiteral(Status::Active);
    let paused: StatusLiteral = StatusLiteral(Status::Paused);
    experiment::status.eq(active).or(experiment::status.eq(paused))
}

fn find_routed_query(public_model_id: &PublicModelId) -> impl Returns<ExperimentId> {
    experiment::table
        .filter(experiment::public_model_id.eq(public_model_id))
        .filter(is_routed())
        .select(experiment::id)
}

fn list_query(filter: &ExperimentFilter, page: Page<ExperimentId>) -> impl Returns<Experiment> {
    let mut query = experiment::table.select(Experiment::as_select()).into_boxed();
    if !filter.include_archived {
        query = query.filter(dsl::not(experiment::is_archived));
    }
    if let Some(status) = filter.status {
        query = query.filter(experiment::status.eq(status));
    }
    if let Some(public_model_id) = &filter.public_model_id {
        query = query.filter(experiment::public_model_id.eq(public_model_id));
    }
    if let Some(after) = page.newest_first(experiment::created_at, experiment::id) {
        query = query.filter(after);
    }
    query.order((experiment::created_at.desc(), experiment::id.desc())).limit(page.limit())
}

fn insert_query(new: &NewExperiment) -> impl Returns<Experiment> {
    diesel::insert_into(experiment::table).values(new).returning(Experiment::as_returning())
}

fn update_query(id: ExperimentId, changes: &ExperimentChanges) -> impl Returns<Experiment> {
    Kept(
        diesel::update(experiment::table.find(id))
            .set((changes, experiment::updated_at.eq(statement_timestamp())))
            .returning(Experiment::as_returning()),
    )
}

fn mark_started_query(id: ExperimentId) -> impl Returns<Experiment> {
    Kept(
        diesel::update(experiment::table.find(id))
            .set((
                experiment::status.eq(Status::Active),
                experiment::started_at.eq(statement_timestamp().nullable()),
                experiment::updated_at.eq(statement_timestamp()),
            ))
            .returning(Experiment::as_returning()),
    )
}

fn set_status_query(id: ExperimentId, status: Status) -> impl Returns<Experiment> {
    Kept(
        diesel::update(experiment::table.find(id))
            .set((experiment::status.eq(status), experiment::updated_at.eq(statement_timestamp())))
            .returning(Experiment::as_returning()),
    )
}

fn mark_ended_query(id: ExperimentId) -> impl Returns<Experiment> {
    Kept(
        diesel::update(experiment::table.find(id))
            .set((
                experiment::status.eq(Status::Completed),
                // Not before it started, also where the clock was set back.
                experiment::ended_at
                    .eq(greatest(statement_timestamp(), experiment::started_at).nullable()),
                experiment::updated_at.eq(statement_timestamp()),
            ))
            .returning(Experiment::as_returning()),
    )
}

fn set_archived_query(id: ExperimentId, is_archived: bool) -> impl Returns<Experiment> {
    Kept(
        diesel::update(experiment::table.find(id))
            .set((
                experiment::is_archived.eq(is_archived),
                experiment::updated_at.eq(statement_timestamp()),
            ))
            .returning(Experiment::as_returning()),
    )
}

fn delete_query(id: ExperimentId) -> impl Returns<ExperimentId> {
    diesel::delete(experiment::table.find(id)).returning(experiment::id)
}

/// Inserts a draft.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    new: &NewExperiment,
) -> Result<Experiment> {
    insert_query(new).one(conn).await
}

/// The experiment `id`, if there is one.
///
/// # Errors
///
/// [`Error::Transient`] or [`Error::Database`].
pub async fn find(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Option<Experiment>> {
    find_query(id).first(conn).await
}

/// The experiments that `filter` lets through, newest first.
///
/// ```no_run
/// use model_experiments::experiments::{self, ExperimentFilter};
/// use model_experiments::values::Status;
/// use model_experiments::{AsyncPgConnection, Page};
///
/// # async fn print(conn: &mut AsyncPgConnection) -> model_experiments::Result<()> {
/// let active = ExperimentFilter::default().status(Status::Active);
/// let mut page = Page::first(50);
/// loop {
///     let experiments = experiments::list(conn, &active, page).await?;
///     let Some(last) = experiments.last() else { break };
///     page = Page::after(last.cursor(), 50);
///     for experiment in &experiments {
///         println!("{}: {}", experiment.public_model_id, experiment.name);
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Error::Transient`] or [`Error::Database`].
pub async fn list(
    conn: &mut AsyncPgConnection,
    filter: &ExperimentFilter,
    page: Page<ExperimentId>,
) -> Result<Vec<Experiment>> {
    list_query(filter, page).load(conn).await
}

/// The experiment that is active or paused on `public_model_id`.
pub(crate) async fn find_routed(
    conn: &mut AsyncPgConnection,
    public_model_id: &PublicModelId,
) -> Result<Option<ExperimentId>> {
    find_routed_query(public_model_id).first(conn).await
}

/// Refuses an experiment that doesn't exist.
pub(crate) async fn require(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<()> {
    find(conn, id).await?.map(drop).ok_or(Error::ExperimentNotFound(id))
}

/// Locks the experiment `id` until the transaction ends. Every change of it, its variants or its
/// versions does so first.
pub(crate) async fn lock(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    lock_query(id).first(conn).await?.ok_or(Error::ExperimentNotFound(id))
}

/// The process id of the session that has locked the experiment `id`; `None` when none has, or
/// several share the lock.
pub(crate) async fn lock_holder(
    conn: &mut AsyncPgConnection,
    id: ExperimentId,
) -> Result<Option<i32>> {
    Ok(lock_holder_query(id).first(conn).await?.flatten())
}

/// Changes the details of a locked experiment.
pub(crate) async fn update(
    conn: &mut AsyncPgConnection,
    id: ExperimentId,
    changes: &ExperimentChanges,
) -> Result<Experiment> {
    update_query(id, changes).one(conn).await
}

/// Activates a locked draft.
pub(crate) async fn mark_started(
    conn: &mut AsyncPgConnection,
    id: ExperimentId,
) -> Result<Experiment> {
    mark_started_query(id).one(conn).await
}

/// Changes the status of a locked experiment between active and paused.
pub(crate) async fn set_status(
    conn: &mut AsyncPgConnection,
    id: ExperimentId,
    status: Status,
) -> Result<Experiment> {
    set_status_query(id, status).one(conn).await
}

/// Completes a locked experiment.
pub(crate) async fn mark_ended(
    conn: &mut AsyncPgConnection,
    id: ExperimentId,
) -> Result<Experiment> {
    mark_ended_query(id).one(conn).await
}

/// Hides a locked experiment from lists, or shows it again.
pub(crate) async fn set_archived(
    conn: &mut AsyncPgConnection,
    id: ExperimentId,
    is_archived: bool,
) -> Result<Experiment> {
    set_archived_query(id, is_archived).one(conn).await
}

/// Deletes a locked experiment, its variants and their versions.
pub(crate) async fn delete(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<ExperimentId> {
    delete_query(id).one(conn).await
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};
    let draft = seed::experiment(960);
    let page = Page::first(50);
    let next = Page::after(Cursor { at: seed::later(), id: draft }, 50);
    let all = || ExperimentFilter::default();
    let changes = ExperimentChanges::default()
        .public_model_id(seed::model(9))
        .name("Bar")
        .description(Some("Which is it?".to_owned()));
    let renamed = ExperimentChanges::default().name("Bar");

    vec![
        query!(find_query(draft)).by("model_experiment_pkey", "id = ?").rows(1, 1),
        query!(lock_query(draft)).by("model_experiment_pkey", "id = ?").rows(1, 1),
        query!(lock_holder_query(draft)).by("model_experiment_pkey", "id = ?").rows(0, 1),
        query!(find_routed_query(&seed::model(7)))
            .by("UQ_model_experiment_public_model_id_routing", "public_model_id = ?")
            .rows(1, 1),
        query!(list_query(&all(), page)).by("IDX_model_experiment_created_at", "").rows(50, 50),
        query!(list_query(&all(), next), "after a cursor")
            .by("IDX_model_experiment_created_at", "ROW(created_at, id) < ROW(?, ?)")
            .rows(50, 50),
        query!(list_query(&all().include_archived(), page), "archived too")
            .by("IDX_model_experiment_created_at", "")
            .rows(50, 50),
        query!(list_query(&all().status(Status::Completed), page), "by status")
            .by("IDX_model_experiment_status_created_at", "status = ?")
            .rows(50, 100),
        query!(list_query(&all().public_model_id(seed::model(7)), page), "by public model id")
            .by("IDX_model_experiment_public_model_id_created_at", "public_model_id = ?")
            .rows(4, 4),
        query!(insert_query(&NewExperiment::new(seed::model(7), "Foo"))).rows(1, 0),
        query!(update_query(draft, &renamed)).by("model_experiment_pkey", "id = ?").rows(1, 1),
        query!(update_query(draft, &changes), "every detail")
            .by("model_experiment_pkey", "id = ?")
            .rows(1, 1),
        query!(mark_started_query(draft)).by("model_experiment_pkey", "id = ?").rows(1, 1),
        query!(set_status_query(seed::experiment(7), Status::Paused))
            .by("model_experiment_pkey", "id = ?")
            .rows(1, 1),
        query!(mark_ended_query(seed::experiment(7)))
            .by("model_experiment_pkey", "id = ?")
            .rows(1, 1),
        query!(set_archived_query(draft, true)).by("model_experiment_pkey", "id = ?").rows(1, 1),
        query!(delete_query(draft)).by("model_experiment_pkey", "id = ?").rows(1, 1),
    ]
}
