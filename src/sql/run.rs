//! Running a query: the rows it returns, and which value of which row can't be read.

use diesel::deserialize::{FromSql, FromSqlRow};
use diesel::expression::QueryMetadata;
use diesel::pg::Pg;
use diesel::query_builder::{Query, QueryFragment, QueryId};
use diesel::query_dsl::CompatibleType;
use diesel::result::Error as DieselError;
use diesel::row::{Field, Row};
use diesel_async::{
    AnsiTransactionManager, AsyncConnectionCore, AsyncPgConnection, TransactionManager,
};
use futures_util::{TryStream, TryStreamExt};
use std::time::Duration;
use tokio::time::timeout;
use uuid::Uuid;

use crate::error::{Error, Result, Transient, UnreadableValue, unreadable_column};

/// Columns whose SQL type admits values that our types reject, each with its table and the table's
/// id column.
///
/// Each has a constraint, so that no such row can block a list.
const CHECKED: [(&str, &str, &str); 5] = [
    ("status", "model_experiment", "id"),
    ("weight", "model_experiment_variant", "id"),
    ("allocation_subject", "model_experiment_request", "usage_id"),
    ("system_prompt_sha256", "model_experiment_request", "usage_id"),
    ("request_body_sha256", "model_experiment_request", "usage_id"),
];

#[cfg(test)]
use crate::registry::Described;

/// The longest wait for the next row. The server sorts and aggregates before it sends the first.
const ROW_TIMEOUT: Duration = Duration::from_secs(60);

/// Tests ask a query for the types of its columns.
#[cfg(not(test))]
pub(crate) trait Described {}
#[cfg(not(test))]
impl<Q> Described for Q {}

/// A query whose rows are `R`s.
///
/// In place of `diesel_async::RunQueryDsl`, whose error for an unreadable value names its field,
/// but neither the table nor the row
/// (<https://docs.diesel.rs/2.3.x/diesel/result/struct.DeserializeFieldError.html>; naming more was
/// left open in <https://github.com/diesel-rs/diesel/pull/697>). Select a row's id before its
/// checked columns.
pub(crate) trait Returns<R>: QueryFragment<Pg> + QueryId + Described + Send + Sized {
    /// All rows.
    fn load(self, conn: &mut AsyncPgConnection) -> impl Future<Output = Result<Vec<R>>> + Send;

    /// The first row, if there is one.
    fn first(self, conn: &mut AsyncPgConnection) -> impl Future<Output = Result<Option<R>>> + Send;

    /// The row of an insertion, or of an update of a locked row.
    fn one(self, conn: &mut AsyncPgConnection) -> impl Future<Output = Result<R>> + Send;
}

/// A statement that returns nothing, as a call of a function without a result.
pub(crate) trait Executes: QueryFragment<Pg> + QueryId + Send + Sized {
    /// Runs it.
    fn execute(self, conn: &mut AsyncPgConnection) -> impl Future<Output = Result<()>> + Send;
}

impl<Q: QueryFragment<Pg> + QueryId + Send> Executes for Q {
    #[expect(clippy::disallowed_methods, reason = "this is where statements are run")]
    async fn execute(self, conn: &mut AsyncPgConnection) -> Result<()> {
        refuse_in_error(conn)?;
        let executed = AsyncConnectionCore::execute_returning_count(conn, self).await;
        executed.map(drop).map_err(Error::from).inspect_err(|error| note_end(conn, error))
    }
}

/// Refuses a connection whose transaction a cancelled operation may have left open on the server.
fn refuse_in_error(conn: &mut AsyncPgConnection) -> Result<()> {
    AnsiTransactionManager::transaction_manager_status_mut(conn).transaction_state()?;
    Ok(())
}

/// Marks a connection that must not be used again as broken, so that any pool closes it.
///
/// Outside of a transaction, a session may be read only by default, and is asked again in one.
fn note_end(conn: &mut AsyncPgConnection, error: &Error) {
    if error.ends_connection() && !is_read_only_by_default(conn, error) {
        AnsiTransactionManager::transaction_manager_status_mut(conn).set_in_error();
    }
}

/// Whether a statement that failed with `error` is to be repeated in a transaction of ours: its own
/// was read only by the session's default.
///
/// Few sessions have such a default, and a transaction takes two more round trips.
pub(crate) fn is_read_only_by_default(conn: &mut AsyncPgConnection, error: &Error) -> bool {
    let status = AnsiTransactionManager::transaction_manager_status_mut(conn);
    matches!(error, Error::Transient { kind: Transient::ReadOnly, .. })
        && matches!(status.transaction_depth(), Ok(None))
}

/// The next row, if it comes in time.
async fn next<Row>(
    rows: &mut (impl TryStream<Ok = Row, Error = DieselError> + Unpin),
) -> Result<Option<Row>> {
    match timeout(ROW_TIMEOUT, rows.try_next()).await {
        Ok(row) => Ok(row?),
        Err(_) => {
            let cause = format!("no further row within {ROW_TIMEOUT:?}");
            Err(Error::transient(Transient::ConnectionLost, cause))
        }
    }
}

impl<Q, R, ST> Returns<R> for Q
where
    Q: Query + QueryFragment<Pg> + QueryId + Described + Send,
    Q::SqlType: CompatibleType<R, Pg, SqlType = ST>,
    Pg: QueryMetadata<Q::SqlType>,
    R: FromSqlRow<ST, Pg> + Send,
{
    #[expect(clippy::disallowed_methods, reason = "this is where queries are run")]
    async fn load(self, conn: &mut AsyncPgConnection) -> Result<Vec<R>> {
        refuse_in_error(conn)?;
        let loaded = async {
            let mut rows = AsyncConnectionCore::load(conn, self).await?;
            let mut built = Vec::new();
            while let Some(row) = next(&mut rows).await? {
                built.push(R::build_from_row(&row).map_err(|error| locate(&row, error))?);
            }
            Ok(built)
        };
        loaded.await.inspect_err(|error| note_end(conn, error))
    }

    async fn first(self, conn: &mut AsyncPgConnection) -> Result<Option<R>> {
        Ok(self.load(conn).await?.into_iter().next())
    }

    async fn one(self, conn: &mut AsyncPgConnection) -> Result<R> {
        Ok(self.first(conn).await?.ok_or(DieselError::NotFound)?)
    }
}

fn locate<'a>(
    row: &impl Row<'a, Pg>,
    error: Box<dyn std::error::Error + Send + Sync>,
) -> DieselError {
    let located = unreadable_column(&*error).and_then(|(column, reason)| {
        let (_, table, id) = CHECKED.into_iter().find(|(checked, ..)| *checked == column)?;
        let row = id_before(row, column, id)?;
        Some(UnreadableValue { table, column: column.to_owned(), row, reason })
    });
    DieselError::DeserializationError(match located {
        Some(unreadable) => Box::new(unreadable),
        None => error,
    })
}

/// The id that stands nearest before `column`, since a row may be joined of several tables'
/// columns.
fn id_before<'a>(row: &impl Row<'a, Pg>, column: &str, id: &str) -> Option<Uuid> {
    let mut found = None;
    for index in 0..row.field_count() {
        let field = row.get(index)?;
        if field.field_name() == Some(column) {
            break;
        }
        if field.field_name() == Some(id) {
            found =
                <Uuid as FromSql<diesel::sql_types::Uuid, Pg>>::from_nullable_sql(field.value())
                    .ok();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use diesel::result::DeserializeFieldError;
    use std::error::Error;

    /// When this fails, Diesel's error says more than the field: perhaps its table or its row.
    #[test]
    fn diesel_still_names_the_field_alone() {
        type FieldAndCause = (Option<String>, Box<dyn Error + Send + Sync>);
        assert_eq!(size_of::<DeserializeFieldError>(), size_of::<FieldAndCause>());
    }
}
