//! The loss ledger: usages of an experiment that have no request, because recording it failed.

use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use std::ops::Range;

use crate::error::Result;
use crate::schema::{
    microdollar_usage as usage, model_experiment as experiment, model_experiment_request as request,
};
use crate::sql::page::Page;
use crate::sql::run::Returns;
use crate::tables::experiments;
use crate::tables::usages::Usage;
use crate::values::{ExperimentId, Timestamp, UsageId};

fn list_query(
    experiment: ExperimentId,
    window: &Range<Timestamp>,
    page: Page<UsageId>,
) -> impl Returns<Usage> {
    let mut query = usage::table
        .inner_join(
            experiment::table.on(experiment::public_model_id.nullable().eq(usage::requested_model)),
        )
        .left_join(request::table)
        .filter(experiment::id.eq(experiment))
        .filter(usage::created_at.nullable().ge(experiment::started_at))
        .filter(
            experiment::ended_at
                .is_null()
                .or(usage::created_at.nullable().lt(experiment::ended_at)),
        )
        .filter(usage::created_at.ge(window.start))
        .filter(usage::created_at.lt(window.end))
        .filter(request::usage_id.nullable().is_null())
        .select(Usage::as_select())
        .into_boxed();
    if let Some(after) = page.oldest_first(usage::created_at, usage::id) {
        query = query.filter(after);
    }
    query.order((usage::created_at, usage::id)).limit(page.limit())
}

/// The usages without a request that were made in `window` on the public model id of `experiment`,
/// from its start to its end.
///
/// Oldest first, so that a usage that is lost meanwhile comes at the end. Attributing a usage takes
/// it off the list:
///
/// ```no_run
/// use model_experiments::Page;
/// use model_experiments::recording::{NewRequest, Usage, record};
/// use model_experiments::reports::loss_ledger;
/// # use model_experiments::values::{ExperimentId, Timestamp};
/// # use model_experiments::{AsyncPgConnection, Result};
///
/// # async fn attribute(conn: &mut AsyncPgConnection, experiment: ExperimentId,
/// #     window: &std::ops::Range<Timestamp>,
/// #     logged: impl Fn(&Usage) -> Option<NewRequest>) -> Result<()> {
/// let mut page = Page::first(500);
/// loop {
///     let lost = loss_ledger::list(conn, experiment, window, page).await?;
///     let Some(last) = lost.last() else { break };
///     page = Page::after(last.cursor(), 500);
///     for usage in &lost {
///         // What the service still knows of it, for example from its log.
///         if let Some(request) = logged(usage) {
///             let _outcome = record::attribute(conn, usage.id, &request).await?;
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// - A usage is found by its `requested_model`, which the host sets to what the client asked for.
/// - A usage's instant is by the host's clock, the experiment's start and end are by the
///   database's. A request that was routed before the end and served after it isn't listed.
/// - Pauses aren't left out. No request is served while the experiment is paused.
/// - A usage whose request is still being retried by a recorder is listed too. Let the window end
///   before now by more than the recorder's `retry_for`.
/// - A page reads every usage in the rest of the window, on any model. Hours or days are cheap,
///   years aren't.
///
/// # Errors
///
/// [`Error::ExperimentNotFound`](crate::Error::ExperimentNotFound). An experiment that never
/// started has an empty list.
#[tracing::instrument(skip_all, fields(%experiment))]
pub async fn list(
    conn: &mut AsyncPgConnection,
    experiment: ExperimentId,
    window: &Range<Timestamp>,
    page: Page<UsageId>,
) -> Result<Vec<Usage>> {
    let lost = list_query(experiment, window, page).load(conn).await?;
    if lost.is_empty() {
        experiments::require(conn, experiment).await?;
    }
    Ok(lost)
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{Query, query, seed};
    use crate::sql::page::Cursor;
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
            query!(list_query(experiment, &day, Page::first(5))),
            "(created_at >= model_experiment.started_at) AND (created_at >= ?) AND (created_at < ?)",
        )
        .rows(5, 4_417),
        of_experiment(
            query!(list_query(experiment, &day, Page::after(noon, 5)), "after a cursor"),
            "(created_at >= model_experiment.started_at) AND (created_at >= ?) AND (created_at < ?) \
             AND (created_at >= ?)",
        )
        .rows(5, 2_209),
    ]
}
