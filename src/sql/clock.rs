//! The database's clock.

use diesel_async::AsyncPgConnection;

use crate::error::Result;
use crate::sql::functions::statement_timestamp;
use crate::sql::run::Returns;
use crate::values::Timestamp;

fn clock_query() -> impl Returns<Timestamp> {
    diesel::select(statement_timestamp())
}

/// The instant by the database's clock.
pub(crate) async fn clock(conn: &mut AsyncPgConnection) -> Result<Timestamp> {
    clock_query().one(conn).await
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::query;

    vec![query!(clock_query()).rows(1, 0)]
}
