//! Tables whose rows row-level security hides from the role, so that they read as empty.

use diesel::dsl::{array, exists, not};
use diesel::prelude::*;
use diesel::sql_types::Oid;
use diesel_async::AsyncPgConnection;

use crate::error::{Error, Result};
use crate::sql::functions::{pg_has_role, row_security_active, to_regclass};
use crate::sql::policies::{pg_class, pg_policy, pg_roles};
use crate::sql::run::Returns;

/// The role of a policy for every role.
const PUBLIC: u32 = 0;

/// The commands of policies that apply to `SELECT`: `SELECT` and all.
const SELECT: u8 = b'r';
const ALL: u8 = b'*';

fn is_hidden_query(table: &str) -> impl Returns<bool> {
    let is_of_role = pg_roles::table
        .filter(pg_has_role(pg_roles::oid, "USAGE"))
        .filter(pg_policy::polroles.overlaps_with(array::<Oid, _>((pg_roles::oid, PUBLIC))));
    let policies = pg_policy::table
        .filter(pg_policy::polrelid.eq(pg_class::oid))
        .filter(pg_policy::polpermissive)
        .filter(pg_policy::polcmd.eq(SELECT).or(pg_policy::polcmd.eq(ALL)))
        .filter(exists(is_of_role));
    let hidden = pg_class::table
        .filter(pg_class::oid.nullable().eq(to_regclass(table)))
        .filter(row_security_active(pg_class::oid))
        .filter(not(exists(policies)));
    diesel::select(exists(hidden))
}

/// Refuses a role from which every row of one of `tables` is hidden: it has row-level security, and
/// no policy lets the role read.
///
/// What a policy lets the role see is the host's choice.
pub(crate) async fn require_visible(
    conn: &mut AsyncPgConnection,
    tables: &[&'static str],
) -> Result<()> {
    for table in tables {
        if is_hidden_query(table).one(conn).await? {
            return Err(Error::RowsHidden { table });
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::query;

    vec![
        query!(is_hidden_query("model_experiment"))
            .by("pg_class_oid_index", "oid = (to_regclass(?))::oid")
            .scanning("pg_policy")
            .scanning("pg_authid")
            .rows(1, 1),
    ]
}
