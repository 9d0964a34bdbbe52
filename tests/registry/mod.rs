//! Every query of the crate, registered once beside its function: what its SQL is, what the server
//! says of it, and how it is planned.

mod described;
mod functions;
mod plan;
pub(crate) mod seed;
mod snapshots;
#[path = "../support/sources.rs"]
mod sources;
#[expect(dead_code, reason = "the suite uses the rest")]
#[path = "../support/mod.rs"]
mod support;

use diesel::pg::{Pg, PgMetadataLookup, PgQueryBuilder, PgTypeMetadata};
use diesel::query_builder::bind_collector::RawBytesBindCollector;
use diesel::query_builder::{QueryBuilder, QueryFragment};

use crate::sql::run::{Executes, Returns};
pub(crate) use described::Described;
use described::{Column, Parameter};
use plan::Plan;

/// A query with the arguments that it is printed and explained with.
pub(crate) struct Query {
    /// The path of its function, and which of several cases it is.
    name: String,
    sql: String,
    parameters: Vec<Parameter>,
    columns: Vec<Column>,
    plan: Plan,
}

/// Registers a query function, called with arguments of the seeded database.
macro_rules! query {
    ($function:ident($($argument:expr),* $(,)?) $(, $case:literal)?) => {
        $crate::registry::Query::new(
            module_path!(),
            concat!(stringify!($function) $(, ".", $case)?),
            &$function($($argument),*),
        )
    };
}
pub(crate) use query;

/// Registers a function of a statement that returns nothing, as [`query!`] does.
macro_rules! statement {
    ($function:ident($($argument:expr),* $(,)?)) => {
        $crate::registry::Query::of_statement(
            module_path!(),
            stringify!($function),
            &$function($($argument),*),
        )
    };
}
pub(crate) use statement;

impl Query {
    pub(crate) fn new<R>(module: &str, name: &str, query: &impl Returns<R>) -> Self {
        Self::with_columns(module, name, query, query.columns())
    }

    pub(crate) fn of_statement(module: &str, name: &str, statement: &impl Executes) -> Self {
        Self::with_columns(module, name, statement, vec![Column::VOID])
    }

    fn with_columns(
        module: &str,
        name: &str,
        query: &impl QueryFragment<Pg>,
        columns: Vec<Column>,
    ) -> Self {
        let module = module.split_once("::").map_or("", |(_, module)| module);
        let mut sql = PgQueryBuilder::default();
        query.to_sql(&mut sql, &Pg).unwrap();
        let mut binds = RawBytesBindCollector::<Pg>::new();
        query
            .collect_binds(&mut binds, &mut BuiltInTypes as &mut dyn PgMetadataLookup, &Pg)
            .unwrap();
        let parameters = binds.metadata.iter().zip(binds.binds);
        Self {
            name: format!("{module}::{name}"),
            sql: sql.finish(),
            parameters: parameters
                .map(|(of, value)| Parameter { oid: of.oid().unwrap(), value })
                .collect(),
            columns,
            plan: Plan::default(),
        }
    }

    /// An index that each plan of the query uses, and its condition, in which `?` stands for a
    /// value.
    pub(crate) fn by(mut self, name: &'static str, condition: &'static str) -> Self {
        self.plan.indexes.insert((name.to_owned(), condition.to_owned()));
        self
    }

    /// A table that each plan reads from end to end, of which the query asks for a large part.
    pub(crate) fn scanning(mut self, table: &'static str) -> Self {
        self.plan.scanned.insert(table.to_owned());
        self
    }

    /// How many rows of the seeded database it returns, and how many rows of tables it may read for
    /// that.
    pub(crate) fn rows(mut self, returned: u32, read: u32) -> Self {
        (self.plan.returned, self.plan.read) = (returned, read);
        self
    }
}

/// No type is looked up: all are PostgreSQL's own.
struct BuiltInTypes;

impl PgMetadataLookup for BuiltInTypes {
    fn lookup_type(&mut self, name: &str, _: Option<&str>) -> PgTypeMetadata {
        panic!("{name} is not a type of PostgreSQL's own")
    }
}

/// Every registered query.
fn all() -> Vec<Query> {
    use crate::{database, experiments, recording, reports, routing, sql, tables};
    [
        database::language::queries(),
        database::migrations::history::queries(),
        database::row_security::queries(),
        database::server::queries(),
        experiments::notify::queries(),
        recording::statements::many::queries(),
        recording::statements::one::queries(),
        reports::feedback::queries(),
        reports::loss_ledger::queries(),
        reports::overview::queries(),
        reports::summary::queries(),
        routing::query::queries(),
        sql::clock::queries(),
        tables::experiments::queries(),
        tables::requests::queries(),
        tables::usages::queries(),
        tables::variants::queries(),
        tables::versions::queries(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
