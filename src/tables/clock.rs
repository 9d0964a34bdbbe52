//! What time it is by the database's clock.

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;

use super::rows::Returns;
use crate::error::Result;

diesel::define_sql_function! {
    /// The instant at which it is called, where `now()` is the instant at which the transaction began.
    fn clock_timestamp() -> Timestamptz;
}

fn instant() -> impl Returns<DateTime<Utc>> {
    diesel::select(clock_timestamp())
}

/// The instant by the database's clock. Asked for after a lock was waited for, it is later than
/// anything that the lock's earlier holders wrote.
pub(crate) async fn clock(conn: &mut AsyncPgConnection) -> Result<DateTime<Utc>> {
    instant().one(conn).await
}
