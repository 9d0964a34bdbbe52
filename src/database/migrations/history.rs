//! The migrations that Diesel recorded as applied, and the lock of a run.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::error::Result;
use crate::sql::functions::{pg_advisory_lock, set_config, to_regclass};
use crate::sql::run::{Executes, Returns};

/// The key of the advisory lock: an arbitrary number.
const LOCK: i64 = 0x6d6f_6465_6c65_7870;

diesel::table! {
    __diesel_schema_migrations (version) {
        version -> VarChar,
    }
}

fn disable_lock_timeout_query() -> impl Returns<String> {
    diesel::select(set_config("lock_timeout", "0", true))
}

fn lock_query() -> impl Executes {
    diesel::select(pg_advisory_lock(LOCK))
}

fn exists_query() -> impl Returns<bool> {
    diesel::select(to_regclass("__diesel_schema_migrations").is_not_null())
}

fn list_query() -> impl Returns<String> {
    __diesel_schema_migrations::table.select(__diesel_schema_migrations::version)
}

/// Waits for other runs of migrations to end, and keeps others from starting.
pub(super) async fn lock(conn: &mut AsyncPgConnection) -> Result<()> {
    conn.transaction(async |conn| {
        // A lock timeout in the URL is meant for the tables, not for the wait for another run.
        let _: String = disable_lock_timeout_query().one(conn).await?;
        lock_query().execute(conn).await?;
        Ok(())
    })
    .await
}

/// The versions of the migrations that were applied.
pub(super) async fn applied(conn: &mut AsyncPgConnection) -> Result<Vec<String>> {
    if exists_query().one(conn).await? { list_query().load(conn).await } else { Ok(Vec::new()) }
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, statement};

    vec![
        query!(disable_lock_timeout_query()).rows(1, 0),
        statement!(lock_query()).rows(1, 0),
        query!(exists_query()).rows(1, 0),
        query!(list_query()).rows(4, 4),
    ]
}
