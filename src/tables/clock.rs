//! What time it is by the database's clock.

use chrono::{DateTime, Utc};
use diesel::dsl::auto_type;
use diesel::sql_types::Timestamptz;
use diesel_async::AsyncPgConnection;

use super::Returns;
use crate::error::Result;

diesel::define_sql_function! {
    /// The instant at which the statement began. After a lock was waited for, it is later than anything that
    /// the lock's earlier holders wrote; `now()`, at which the transaction began, may not be.
    fn statement_timestamp() -> Timestamptz;
}

diesel::define_sql_function! {
    /// The later of two instants.
    fn greatest(one: Timestamptz, other: Timestamptz) -> Timestamptz;
}

/// What time it is by a clock that never goes back behind what it was `seen` to say.
#[auto_type]
pub(crate) fn no_earlier_than(seen: DateTime<Utc>) -> _ {
    greatest(statement_timestamp(), seen)
}

fn instant() -> impl Returns<DateTime<Utc>> {
    diesel::select(statement_timestamp())
}

/// The instant by the database's clock.
pub(crate) async fn clock(conn: &mut AsyncPgConnection) -> Result<DateTime<Utc>> {
    instant().one(conn).await
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::query;

    vec![query!(instant()).rows(1, 0)]
}
