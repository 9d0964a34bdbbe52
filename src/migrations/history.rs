//! What Diesel recorded as applied, and the lock under which more is applied.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::error::Result;
use crate::tables::{Returns, Void};

/// The key of the advisory lock. The number is arbitrary.
const LOCK: i64 = 0x6d6f_6465_6c65_7870;

diesel::table! {
    __diesel_schema_migrations (version) {
        version -> VarChar,
    }
}

#[diesel::declare_sql_function]
extern "SQL" {
    /// Changes a setting, here until the transaction ends.
    fn set_config(name: Text, value: Text, is_local: Bool) -> Text;

    /// Waits for the lock, and holds it until the connection ends.
    fn pg_advisory_lock(key: BigInt) -> Void;

    /// The table of that name, if there is one.
    #[sql_name = "to_regclass"]
    fn table_named(name: Text) -> Nullable<Oid>;
}

fn no_lock_timeout() -> impl Returns<String> {
    diesel::select(set_config("lock_timeout", "0", true))
}

/// True, once it has the lock: the function itself returns nothing that could be read.
fn locked() -> impl Returns<bool> {
    diesel::select(pg_advisory_lock(LOCK).is_not_null())
}

fn exists() -> impl Returns<bool> {
    diesel::select(table_named("__diesel_schema_migrations").is_not_null())
}

fn versions() -> impl Returns<String> {
    __diesel_schema_migrations::table.select(__diesel_schema_migrations::version)
}

/// Waits until no other run of migrations is under way, and keeps others from starting.
pub(super) async fn lock(conn: &mut AsyncPgConnection) -> Result<()> {
    conn.transaction(async |conn| {
        // The URL's own lock timeout is for what the migrations lock.
        let _: String = no_lock_timeout().one(conn).await?;
        let _: bool = locked().one(conn).await?;
        Ok(())
    })
    .await
}

/// The versions of the migrations that were applied.
pub(super) async fn applied(conn: &mut AsyncPgConnection) -> Result<Vec<String>> {
    if exists().one(conn).await? { versions().load(conn).await } else { Ok(Vec::new()) }
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::query;

    vec![
        query!(no_lock_timeout()).rows(1, 0),
        query!(locked()).rows(1, 0),
        query!(exists()).rows(1, 0),
        query!(versions()).rows(4, 4),
    ]
}
