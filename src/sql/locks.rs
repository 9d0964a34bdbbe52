//! Who holds a lock: PostgreSQL's view of locks, and the system column that names a row's locker.

use diesel::query_builder::QueryId;
use diesel::sql_types::SqlType;

/// The SQL type of a transaction's id.
#[derive(Debug, Clone, Copy, SqlType, QueryId)]
#[diesel(postgres_type(name = "xid"))]
pub struct Xid;

diesel::table! {
    use diesel::sql_types::*;
    use super::Xid;

    /// The locks that sessions hold or wait for.
    pg_locks (pid) {
        pid -> Nullable<Integer>,
        locktype -> Text,
        mode -> Text,
        granted -> Bool,
        transactionid -> Nullable<Xid>,
        relation -> Nullable<Oid>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::Xid;

    /// Experiments, with the transaction that last locked or changed the row.
    #[sql_name = "model_experiment"]
    locked_experiment (id) {
        id -> Uuid,
        xmax -> Xid,
    }
}

diesel::table! {
    /// The sessions of the server, each with its database.
    pg_stat_activity (pid) {
        pid -> Integer,
        datname -> Nullable<Text>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(pg_locks, locked_experiment);
diesel::allow_tables_to_appear_in_same_query!(pg_locks, pg_stat_activity);
