//! The loss ledger: usages of an experiment that no request attributes, as where recording it failed.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Record, Timestamptz, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::schema::{microdollar_usage, model_experiment, model_experiment_request};
use crate::tables::usages::Usage;
use crate::tables::{Cursor, Page, Returns, experiments};
use crate::values::{ExperimentId, UsageId, stored};

fn unattributed(
    experiment: ExperimentId,
    window: &Range<DateTime<Utc>>,
    page: Page<UsageId>,
) -> impl Returns<Usage> {
    let mut query = microdollar_usage::table
        .inner_join(model_experiment::table.on(
            model_experiment::public_model_id.nullable().eq(microdollar_usage::requested_model),
        ))
        .left_join(model_experiment_request::table)
        .filter(model_experiment::id.eq(experiment))
        .filter(microdollar_usage::created_at.nullable().ge(model_experiment::started_at))
        .filter(
            model_experiment::ended_at
                .is_null()
                .or(microdollar_usage::created_at.nullable().lt(model_experiment::ended_at)),
        )
        .filter(microdollar_usage::created_at.ge(window.start))
        .filter(microdollar_usage::created_at.lt(window.end))
        .filter(model_experiment_request::usage_id.nullable().is_null())
        .select(Usage::as_select())
        .into_boxed();
    if let Some(Cursor { at, id }) = page.after {
        query = query.filter(
            (microdollar_usage::created_at, microdollar_usage::id)
                .into_sql::<Record<(Timestamptz, SqlUuid)>>()
                .gt((at, id)),
        );
    }
    query.order((microdollar_usage::created_at, microdollar_usage::id)).limit(page.limit.into())
}

/// The usages without a request that were made in `window`, on the public model id of `experiment` between its
/// start and its end, if it has ended.
///
/// Oldest first: what has been lost for longest is attributed first, and what is lost meanwhile comes at the end.
/// Attributing what was listed takes it off the list:
///
/// ```no_run
/// use model_experiments::operations::{loss_ledger, record};
/// use model_experiments::tables::{Page, requests::NewRequest, usages::Usage};
/// # use chrono::{DateTime, Utc};
/// # use model_experiments::{AsyncPgConnection, Result, values::ExperimentId};
///
/// # async fn attribute(conn: &mut AsyncPgConnection, experiment: ExperimentId,
/// #     window: std::ops::Range<DateTime<Utc>>, logged: impl Fn(&Usage) -> Option<NewRequest>) -> Result<()> {
/// let mut page = Page::first(500);
/// loop {
///     let lost = loss_ledger::list(conn, experiment, window.clone(), page).await?;
///     let Some(last) = lost.last() else { break };
///     page = Page::after(last.cursor(), 500);
///     for usage in &lost {
///         // Whatever the service still knows of it, as from its log.
///         if let Some(request) = logged(usage) {
///             let _outcome = record::attribute(conn, usage.id, &request).await?;
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// - A usage is found by its `requested_model`, which the host has to set to what the client asked for.
/// - Its instant is the host's, the experiment's start and end are the database's: where their clocks differ, so do
///   the list's ends. A request that was routed before the end and served after it isn't listed.
/// - Pauses aren't left out: no request is served while the experiment is paused.
/// - A usage whose request is still on its way, as in a recorder that retries, is listed too: let the window end before
///   now by more than the deadline of its retries.
/// - A page reads every usage in the rest of the window, on whatever model: hours or days are cheap, years aren't.
///
/// # Errors
///
/// - [`Error::ExperimentNotFound`] when there is no such experiment; one that never started has lost nothing;
/// - [`Error::Invalid`] when PostgreSQL has no such instant as the window's or the page's cursor's.
pub async fn list(
    conn: &mut AsyncPgConnection,
    experiment: ExperimentId,
    window: Range<DateTime<Utc>>,
    page: Page<UsageId>,
) -> Result<Vec<Usage>> {
    let window = stored(window.start)?..stored(window.end)?;
    let lost = unattributed(experiment, &window, page.stored()?).load(conn).await?;
    if lost.is_empty() && experiments::find(conn, experiment).await?.is_none() {
        return Err(Error::ExperimentNotFound(experiment));
    }
    Ok(lost)
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{Query, query, seed};
    use chrono::Duration;
    let (experiment, start) = (seed::experiment(7), seed::window().start);
    let day = start..start + Duration::days(1);
    let noon = Cursor { at: start + Duration::hours(12), id: seed::usage(7) };

    let of_experiment = |query: Query, usages| {
        query
            .by("IDX_microdollar_usage_created_at", usages)
            .by("model_experiment_pkey", "id = ?")
            .by("model_experiment_request_pkey", "usage_id = microdollar_usage.id")
    };

    vec![
        of_experiment(
            query!(unattributed(experiment, &day, Page::first(5))),
            "(created_at >= model_experiment.started_at) AND (created_at >= ?) AND (created_at < ?)",
        )
        .rows(5, 4_417),
        of_experiment(
            query!(unattributed(experiment, &day, Page::after(noon, 5)), "after a cursor"),
            "(created_at >= model_experiment.started_at) AND (created_at >= ?) AND (created_at < ?) \
             AND (created_at >= ?)",
        )
        .rows(5, 2_209),
    ]
}
