//! What a query says of its parameters and columns, against what the server says.

use diesel::Selectable;
use diesel::dsl::{AsSelect, SqlTypeOf};
use diesel::pg::Pg;
use diesel::query_builder::Query;
use diesel::sql_types::{self, HasSqlType, Nullable, Record};
use std::collections::HashMap;
use tokio_postgres::types::Type;

use super::support::TestDatabase;
use super::{BuiltInTypes, all, plan};

/// A value that a query binds.
#[derive(Debug)]
pub(crate) struct Parameter {
    /// Its type.
    pub(super) oid: u32,
    /// The value in the server's binary form.
    pub(super) value: Option<Vec<u8>>,
}

/// A column that a query returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its type.
    pub(super) oid: u32,
    /// Whether it may be null.
    pub(super) is_nullable: bool,
}

impl Column {
    /// The column of a function that returns nothing.
    pub(super) const VOID: Self = Self { oid: 2278, is_nullable: true };
}

/// A query that tells the types of its columns.
pub(crate) trait Described {
    fn columns(&self) -> Vec<Column>;
}

impl<Q: Query<SqlType: Columns>> Described for Q {
    fn columns(&self) -> Vec<Column> {
        let mut columns = Vec::new();
        Q::SqlType::describe(false, &mut columns);
        columns
    }
}

/// The SQL type of a column, or of several.
pub(crate) trait Columns {
    fn describe(is_nullable: bool, columns: &mut Vec<Column>);
}

impl<T: Columns + sql_types::SqlType> Columns for Nullable<T> {
    fn describe(_: bool, columns: &mut Vec<Column>) {
        T::describe(true, columns);
    }
}

/// One value, whose parts the server doesn't describe.
impl<T> Columns for Record<T> {
    fn describe(is_nullable: bool, columns: &mut Vec<Column>) {
        columns.push(Column { oid: Type::RECORD.oid(), is_nullable });
    }
}

impl<R: Selectable<Pg>> Columns for AsSelect<R, Pg>
where
    SqlTypeOf<R::SelectExpression>: Columns,
{
    fn describe(is_nullable: bool, columns: &mut Vec<Column>) {
        <SqlTypeOf<R::SelectExpression>>::describe(is_nullable, columns);
    }
}

macro_rules! single {
    ($($type:ident),*) => {$(
        impl Columns for sql_types::$type {
            fn describe(is_nullable: bool, columns: &mut Vec<Column>) {
                let metadata = <Pg as HasSqlType<Self>>::metadata(&mut BuiltInTypes);
                columns.push(Column { oid: metadata.oid().unwrap(), is_nullable });
            }
        }
    )*};
}
single!(BigInt, Bool, Integer, Jsonb, Numeric, SmallInt, Text, Timestamptz, Uuid);

macro_rules! several {
    ($($type:ident)*) => {
        impl<$($type: Columns),*> Columns for ($($type,)*) {
            fn describe(is_nullable: bool, columns: &mut Vec<Column>) {
                $($type::describe(is_nullable, columns);)*
            }
        }
    };
}
several!(A B);
several!(A B C);
several!(A B C D);
several!(A B C D E);
several!(A B C D E F);
several!(A B C D E F G);
several!(A B C D E F G H);
several!(A B C D E F G H I J K);
several!(A B C D E F G H I J K L M N O P Q);

/// The columns that a query says are never null, where the server can't tell: counts, values of
/// functions, and the id by which requests were asked for.
const ASSUMED: [&str; 29] = [
    "database::language::lc_messages_query: current_setting",
    "database::migrations::history::exists_query: ?column?",
    "database::row_security::is_hidden_query: exists",
    "database::server::role_query: pg_is_in_recovery",
    "database::server::role_query: current_setting",
    "reports::feedback::served_by_query: client_request_id",
    "reports::summary::sum_query: count",
    "reports::summary::sum_query: count",
    "reports::summary::sum_query: int8",
    "reports::summary::sum_query: int8",
    "reports::summary::sum_query: int8",
    "reports::summary::sum_query: int8",
    "reports::summary::sum_query: int8",
    "reports::summary::sum_by_subject_query: count",
    "reports::summary::sum_by_subject_query: count",
    "reports::summary::sum_by_subject_query: int8",
    "reports::summary::sum_by_subject_query: int8",
    "reports::summary::sum_by_subject_query: int8",
    "reports::summary::sum_by_subject_query: int8",
    "reports::summary::sum_by_subject_query: int8",
    "reports::summary::count_users_query: count",
    "reports::summary::count_users_by_subject_query: count",
    "routing::query::list_query: greatest",
    "routing::query::list_fingerprints_query: greatest",
    "routing::query::list_some_query: greatest",
    "routing::query::list_some_query.with a long history: greatest",
    "sql::clock::clock_query: statement_timestamp",
    "tables::versions::exists_at_query: exists",
    "tables::versions::next_instant_query: greatest",
];

/// The type that the server has under `oid`. Diesel reads `varchar` as `text`.
fn type_of(oid: u32) -> Type {
    match Type::from_oid(oid) {
        Some(Type::VARCHAR) => Type::TEXT,
        found => found.unwrap(),
    }
}

#[tokio::test]
async fn the_server_describes_every_query_as_its_types_do() {
    let db = TestDatabase::new().await;
    let client = plan::connect(&db).await;
    let nullable: HashMap<(u32, i16), bool> = client
        .query("SELECT attrelid, attnum, NOT attnotnull FROM pg_attribute WHERE attnum > 0", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| ((row.get(0), row.get(1)), row.get(2)))
        .collect();
    let mut assumed = Vec::new();
    for query in all() {
        let name = &query.name;
        let declared: Vec<_> = query.parameters.iter().map(|of| type_of(of.oid)).collect();
        // A function of any array doesn't say of which.
        let told = if query.sql.contains("unnest(") { &declared[..] } else { &[] };
        let prepared = client.prepare_typed(&query.sql, told).await.unwrap();
        let described: Vec<_> = prepared.params().iter().map(|of| type_of(of.oid())).collect();
        assert_eq!(described, declared, "parameters of {name}");

        let declared: Vec<_> = query.columns.iter().map(|of| type_of(of.oid)).collect();
        let described: Vec<_> =
            prepared.columns().iter().map(|of| type_of(of.type_().oid())).collect();
        assert_eq!(described, declared, "columns of {name}");

        let outer = plan::outer_joined(&client, &query).await;
        for (at, (declared, described)) in query.columns.iter().zip(prepared.columns()).enumerate()
        {
            let column = format!("{name}: {}", described.name());
            let place = described.table_oid().zip(described.column_id());
            let is_certain = place.is_some_and(|place| !nullable[&place]) && !outer[at];
            match (declared.is_nullable, is_certain) {
                (true, true) => panic!("{column} is never null"),
                (false, false) => assumed.push(column),
                _ => {}
            }
        }
    }
    assert_eq!(assumed, ASSUMED);
}
