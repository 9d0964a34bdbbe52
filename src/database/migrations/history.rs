//! The migrations that Diesel recorded as applied, and who has locked that record.

use diesel::prelude::*;
use diesel_async::AsyncPgConnection;

use crate::error::Result;
use crate::sql::functions::{current_database, to_regclass};
use crate::sql::locks::{pg_locks, pg_stat_activity};
use crate::sql::run::Returns;

/// Diesel's table, which both `diesel migration run` and the library write.
pub(super) const TABLE: &str = "__diesel_schema_migrations";

/// The lock modes of readers, which no run of migrations waits for.
const MODES_OF_READERS: [&str; 2] = ["AccessShareLock", "RowShareLock"];

diesel::table! {
    __diesel_schema_migrations (version) {
        version -> VarChar,
    }
}

fn exists_query() -> impl Returns<bool> {
    diesel::select(to_regclass(TABLE).is_not_null())
}

fn list_query() -> impl Returns<String> {
    __diesel_schema_migrations::table.select(__diesel_schema_migrations::version)
}

fn lock_holder_query() -> impl Returns<Option<i32>> {
    let sessions = pg_stat_activity::table
        .filter(pg_stat_activity::datname.eq(current_database().nullable()))
        .select(pg_stat_activity::pid.nullable());
    pg_locks::table
        .filter(pg_locks::pid.eq_any(sessions))
        .filter(pg_locks::relation.eq(to_regclass(TABLE)))
        .filter(pg_locks::granted)
        .filter(pg_locks::mode.ne_all(MODES_OF_READERS))
        .select(pg_locks::pid)
}

/// The versions of the migrations that were applied.
pub(super) async fn applied(conn: &mut AsyncPgConnection) -> Result<Vec<String>> {
    if exists_query().one(conn).await? { list_query().load(conn).await } else { Ok(Vec::new()) }
}

/// The process id of a session that has locked the table, as another run of migrations does.
pub(super) async fn lock_holder(conn: &mut AsyncPgConnection) -> Result<Option<i32>> {
    Ok(lock_holder_query().first(conn).await?.flatten())
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::query;

    vec![
        query!(exists_query()).rows(1, 0),
        query!(list_query()).rows(5, 5),
        query!(lock_holder_query()).scanning("pg_database").rows(0, 0),
    ]
}
