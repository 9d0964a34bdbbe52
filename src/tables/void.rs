//! The type of a function that returns nothing.

use diesel::sql_types::SqlType;

/// The SQL type of a function that returns nothing. Whether it is null can be asked, so that the function is called by
/// a typed query.
#[derive(SqlType)]
#[diesel(postgres_type(oid = 2278, array_oid = 0))]
pub struct Void;
