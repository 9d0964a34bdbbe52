//! Experiments: what is stored of one, how it is inserted, found and listed.

use chrono::{DateTime, Utc};
use diesel::dsl::{self, auto_type};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Record, Timestamptz, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;
use serde::Serialize;

use super::{Cached, Cursor, Page, Returns, StatusLiteral, statement_timestamp};
use crate::error::{Error, Result};
use crate::schema::{model_experiment, model_experiment_variant};
use crate::values::{ExperimentId, InvalidValue, PublicModelId, Status, VariantId, storable};

/// An A/B test that swaps the upstream checkpoint behind one public model id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Queryable, Selectable)]
#[diesel(table_name = model_experiment, check_for_backend(Pg))]
#[non_exhaustive]
pub struct Experiment {
    /// Identifies the experiment.
    pub id: ExperimentId,
    /// The model id that clients ask for.
    pub public_model_id: PublicModelId,
    /// What operators call the experiment.
    pub name: String,
    /// What the experiment is to find out.
    pub description: Option<String>,
    /// Where in its life the experiment is.
    pub status: Status,
    /// Whether the experiment is hidden from lists; never affects routing.
    pub is_archived: bool,
    /// The host's user who created the experiment.
    pub created_by_user_id: Option<String>,
    /// When the experiment was created.
    pub created_at: DateTime<Utc>,
    /// When the experiment last changed.
    pub updated_at: DateTime<Utc>,
    /// When the experiment was first activated.
    pub started_at: Option<DateTime<Utc>>,
    /// When the experiment was completed.
    pub ended_at: Option<DateTime<Utc>>,
}

impl Experiment {
    /// Where the experiment stands in a [`list`].
    pub fn cursor(&self) -> Cursor<ExperimentId> {
        Cursor { at: self.created_at, id: self.id }
    }
}

/// An experiment to insert. It begins as a draft.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = model_experiment, treat_none_as_default_value = false)]
pub struct NewExperiment {
    public_model_id: PublicModelId,
    name: String,
    description: Option<String>,
    created_by_user_id: Option<String>,
}

impl NewExperiment {
    /// An experiment behind `public_model_id` that operators call `name`. It and the other texts are at most
    /// 65,536 bytes long.
    pub fn new(public_model_id: PublicModelId, name: impl Into<String>) -> Self {
        Self { public_model_id, name: name.into(), description: None, created_by_user_id: None }
    }

    /// What the experiment is to find out.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// The host's user who creates it.
    #[must_use]
    pub fn created_by(mut self, user_id: impl Into<String>) -> Self {
        self.created_by_user_id = Some(user_id.into());
        self
    }

    fn check(&self) -> Result<(), InvalidValue> {
        check_name(&self.name)?;
        storable("description", self.description.as_deref().unwrap_or_default())?;
        storable("created_by_user_id", self.created_by_user_id.as_deref().unwrap_or_default())
    }
}

/// Which of an experiment's columns to change, and to what.
#[derive(Debug, Clone, Default, AsChangeset)]
#[diesel(table_name = model_experiment)]
pub struct ExperimentChanges {
    public_model_id: Option<PublicModelId>,
    name: Option<String>,
    description: Option<Option<String>>,
}

impl ExperimentChanges {
    /// No change yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another public model id; only a draft takes one.
    #[must_use]
    pub fn public_model_id(mut self, public_model_id: PublicModelId) -> Self {
        self.public_model_id = Some(public_model_id);
        self
    }

    /// Another name, at most 65,536 bytes.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Another description, at most 65,536 bytes, or none.
    #[must_use]
    pub fn description(mut self, description: Option<String>) -> Self {
        self.description = Some(description);
        self
    }

    /// Whether the experiment's public model id would become another.
    pub(crate) fn moves(&self, experiment: &Experiment) -> bool {
        self.public_model_id.as_ref().is_some_and(|id| *id != experiment.public_model_id)
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        if let Some(name) = &self.name {
            check_name(name)?;
        }
        storable("description", self.description.as_ref().and_then(Option::as_deref).unwrap_or(""))
    }
}

/// Which experiments to list: all that aren't archived, unless it says otherwise.
#[derive(Debug, Clone, Default)]
pub struct ExperimentFilter {
    status: Option<Status>,
    public_model_id: Option<PublicModelId>,
    include_archived: bool,
}

impl ExperimentFilter {
    /// All that aren't archived.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only those with `status`.
    #[must_use]
    pub fn status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }

    /// Only those behind `public_model_id`.
    #[must_use]
    pub fn public_model_id(mut self, public_model_id: PublicModelId) -> Self {
        self.public_model_id = Some(public_model_id);
        self
    }

    /// Archived ones too.
    #[must_use]
    pub fn include_archived(mut self) -> Self {
        self.include_archived = true;
        self
    }
}

fn check_name(name: &str) -> Result<(), InvalidValue> {
    if name.is_empty() {
        return Err(InvalidValue::new("name", "must not be empty"));
    }
    storable("name", name)
}

fn by_id(id: ExperimentId) -> impl Returns<Experiment> {
    model_experiment::table.find(id).select(Experiment::as_select())
}

fn by_id_locked(id: ExperimentId) -> impl Returns<Experiment> {
    model_experiment::table.find(id).select(Experiment::as_select()).for_update()
}

fn by_variant_locked(variant: VariantId) -> impl Returns<Experiment> {
    let experiment = model_experiment_variant::table
        .filter(model_experiment_variant::id.eq(variant))
        .select(model_experiment_variant::experiment_id);
    model_experiment::table
        .filter(model_experiment::id.eq_any(experiment))
        .select(Experiment::as_select())
        .for_update()
}

/// Whether an experiment is routed. The statuses are literals: of a bind the planner can't tell whether
/// the partial unique index applies.
#[auto_type]
pub(crate) fn is_routed() -> _ {
    let active: StatusLiteral = StatusLiteral(Status::Active);
    let paused: StatusLiteral = StatusLiteral(Status::Paused);
    model_experiment::status.eq(active).or(model_experiment::status.eq(paused))
}

fn routed(public_model_id: &PublicModelId) -> impl Returns<Experiment> {
    model_experiment::table
        .filter(model_experiment::public_model_id.eq(public_model_id))
        .filter(is_routed())
        .select(Experiment::as_select())
}

fn newest_first(filter: &ExperimentFilter, page: Page<ExperimentId>) -> impl Returns<Experiment> {
    let mut query = model_experiment::table.select(Experiment::as_select()).into_boxed();
    if !filter.include_archived {
        query = query.filter(dsl::not(model_experiment::is_archived));
    }
    if let Some(status) = filter.status {
        query = query.filter(model_experiment::status.eq(status));
    }
    if let Some(public_model_id) = &filter.public_model_id {
        query = query.filter(model_experiment::public_model_id.eq(public_model_id));
    }
    if let Some(Cursor { at, id }) = page.after {
        query = query.filter(
            (model_experiment::created_at, model_experiment::id)
                .into_sql::<Record<(Timestamptz, SqlUuid)>>()
                .lt((at, id)),
        );
    }
    query
        .order((model_experiment::created_at.desc(), model_experiment::id.desc()))
        .limit(page.limit.into())
}

fn insertion(new: &NewExperiment) -> impl Returns<Experiment> {
    diesel::insert_into(model_experiment::table).values(new).returning(Experiment::as_returning())
}

fn changed(id: ExperimentId, changes: &ExperimentChanges) -> impl Returns<Experiment> {
    Cached(
        diesel::update(model_experiment::table.find(id))
            .set((changes, model_experiment::updated_at.eq(statement_timestamp())))
            .returning(Experiment::as_returning()),
    )
}

fn started(id: ExperimentId) -> impl Returns<Experiment> {
    Cached(
        diesel::update(model_experiment::table.find(id))
            .set((
                model_experiment::status.eq(Status::Active),
                model_experiment::started_at.eq(statement_timestamp().nullable()),
                model_experiment::updated_at.eq(statement_timestamp()),
            ))
            .returning(Experiment::as_returning()),
    )
}

fn switched(id: ExperimentId, status: Status) -> impl Returns<Experiment> {
    Cached(
        diesel::update(model_experiment::table.find(id))
            .set((
                model_experiment::status.eq(status),
                model_experiment::updated_at.eq(statement_timestamp()),
            ))
            .returning(Experiment::as_returning()),
    )
}

fn ended(id: ExperimentId) -> impl Returns<Experiment> {
    Cached(
        diesel::update(model_experiment::table.find(id))
            .set((
                model_experiment::status.eq(Status::Completed),
                model_experiment::ended_at.eq(statement_timestamp().nullable()),
                model_experiment::updated_at.eq(statement_timestamp()),
            ))
            .returning(Experiment::as_returning()),
    )
}

fn archived(id: ExperimentId, is_archived: bool) -> impl Returns<Experiment> {
    Cached(
        diesel::update(model_experiment::table.find(id))
            .set((
                model_experiment::is_archived.eq(is_archived),
                model_experiment::updated_at.eq(statement_timestamp()),
            ))
            .returning(Experiment::as_returning()),
    )
}

fn deletion(id: ExperimentId) -> impl Returns<ExperimentId> {
    diesel::delete(model_experiment::table.find(id)).returning(model_experiment::id)
}

/// Inserts a draft.
///
/// # Errors
///
/// [`Error::Invalid`] when the name is empty, or a text contains a NUL character or exceeds 65,536 bytes.
pub async fn insert(conn: &mut AsyncPgConnection, new: &NewExperiment) -> Result<Experiment> {
    new.check()?;
    insertion(new).one(conn).await
}

/// The experiment `id`, if there is one.
///
/// # Errors
///
/// Only what the database says.
pub async fn find(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Option<Experiment>> {
    by_id(id).first(conn).await
}

/// The experiments that `filter` lets through, newest first.
///
/// # Errors
///
/// [`Error::Invalid`] when PostgreSQL has no such instant as the page's cursor.
pub async fn list(
    conn: &mut AsyncPgConnection,
    filter: &ExperimentFilter,
    page: Page<ExperimentId>,
) -> Result<Vec<Experiment>> {
    newest_first(filter, page.stored()?).load(conn).await
}

/// The experiment that is active or paused on `public_model_id`.
pub(crate) async fn find_routed(
    conn: &mut AsyncPgConnection,
    public_model_id: &PublicModelId,
) -> Result<Option<Experiment>> {
    routed(public_model_id).first(conn).await
}

/// Locks the experiment `id` until the transaction ends: what every change of it, its variants or its
/// versions does first.
pub(crate) async fn lock(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    by_id_locked(id).first(conn).await?.ok_or(Error::ExperimentNotFound(id))
}

/// Locks the experiment that `variant` belongs to.
pub(crate) async fn lock_of_variant(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
) -> Result<Experiment> {
    by_variant_locked(variant).first(conn).await?.ok_or(Error::VariantNotFound(variant))
}

/// Changes the details of a locked experiment.
pub(crate) async fn update(
    conn: &mut AsyncPgConnection,
    id: ExperimentId,
    changes: &ExperimentChanges,
) -> Result<Experiment> {
    changed(id, changes).one(conn).await
}

/// Moves a locked draft to active, and notes when.
pub(crate) async fn start(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    started(id).one(conn).await
}

/// Moves a locked experiment between active and paused.
pub(crate) async fn switch(
    conn: &mut AsyncPgConnection,
    id: ExperimentId,
    status: Status,
) -> Result<Experiment> {
    switched(id, status).one(conn).await
}

/// Moves a locked experiment to completed, and notes when.
pub(crate) async fn end(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<Experiment> {
    ended(id).one(conn).await
}

/// Hides a locked experiment from lists, or shows it again.
pub(crate) async fn set_archived(
    conn: &mut AsyncPgConnection,
    id: ExperimentId,
    is_archived: bool,
) -> Result<Experiment> {
    archived(id, is_archived).one(conn).await
}

/// Deletes a locked experiment, its variants and their versions.
pub(crate) async fn delete(conn: &mut AsyncPgConnection, id: ExperimentId) -> Result<ExperimentId> {
    deletion(id).one(conn).await
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};
    let draft = seed::experiment(960);
    let page = Page::first(50);
    let next = Page::after(Cursor { at: seed::later(), id: draft }, 50);
    let all = || ExperimentFilter::new();
    let changes = ExperimentChanges::new()
        .public_model_id(seed::model(9))
        .name("Bar")
        .description(Some("Which is it?".to_owned()));
    let renamed = ExperimentChanges::new().name("Bar");

    vec![
        query!(by_id(draft)).by("model_experiment_pkey", "id = ?").rows(1, 1),
        query!(by_id_locked(draft)).by("model_experiment_pkey", "id = ?").rows(1, 1),
        query!(by_variant_locked(seed::variant(7)))
            .by("model_experiment_pkey", "id = model_experiment_variant.experiment_id")
            .by("model_experiment_variant_pkey", "id = ?")
            .rows(1, 2),
        query!(routed(&seed::model(7)))
            .by("UQ_model_experiment_public_model_id_routing", "public_model_id = ?")
            .rows(1, 1),
        query!(newest_first(&all(), page)).by("IDX_model_experiment_created_at", "").rows(50, 50),
        query!(newest_first(&all(), next), "after a cursor")
            .by("IDX_model_experiment_created_at", "ROW(created_at, id) < ROW(?, ?)")
            .rows(50, 50),
        query!(newest_first(&all().include_archived(), page), "archived too")
            .by("IDX_model_experiment_created_at", "")
            .rows(50, 50),
        query!(newest_first(&all().status(Status::Completed), page), "by status")
            .by("IDX_model_experiment_status_created_at", "status = ?")
            .rows(50, 100),
        query!(newest_first(&all().public_model_id(seed::model(7)), page), "by public model id")
            .by("IDX_model_experiment_public_model_id_created_at", "public_model_id = ?")
            .rows(4, 4),
        query!(insertion(&NewExperiment::new(seed::model(7), "Foo"))).rows(1, 0),
        query!(changed(draft, &renamed)).by("model_experiment_pkey", "id = ?").rows(1, 1),
        query!(changed(draft, &changes), "every detail")
            .by("model_experiment_pkey", "id = ?")
            .rows(1, 1),
        query!(started(draft)).by("model_experiment_pkey", "id = ?").rows(1, 1),
        query!(switched(seed::experiment(7), Status::Paused))
            .by("model_experiment_pkey", "id = ?")
            .rows(1, 1),
        query!(ended(seed::experiment(7))).by("model_experiment_pkey", "id = ?").rows(1, 1),
        query!(archived(draft, true)).by("model_experiment_pkey", "id = ?").rows(1, 1),
        query!(deletion(draft)).by("model_experiment_pkey", "id = ?").rows(1, 1),
    ]
}
