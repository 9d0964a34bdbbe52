//! How queries are planned on a database that has grown: by which indexes, and how much they read.

use bytes::BytesMut;
use futures_util::TryStreamExt;
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::support::TestDatabase;
use super::{Parameter, Query, all, seed};

/// The one table that may be read from end to end: it has a row for each migration.
const STAYS_SMALL: &str = "__diesel_schema_migrations";

/// What is expected of each plan of a query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// The indexes that it uses, with their conditions.
    pub(super) indexes: BTreeSet<(String, String)>,
    /// The tables that it reads from end to end.
    pub(super) scanned: BTreeSet<String>,
    /// How many rows it returns.
    pub(super) returned: u32,
    /// How many rows of tables it reads at most.
    pub(super) read: u32,
}

/// What the server did to run a query once.
#[derive(Debug, Default)]
struct Explained {
    indexes: BTreeSet<(String, String)>,
    /// The tables that were read from end to end.
    scanned: BTreeSet<String>,
    returned: f64,
    /// The rows that were read of tables, those included that a condition then dropped.
    read: f64,
    /// The pages that were looked at.
    buffers: u64,
}

impl Explained {
    fn is(&self, expected: &Plan) -> bool {
        self.indexes == expected.indexes
            && self.scanned == expected.scanned
            && self.returned == f64::from(expected.returned)
            && self.read <= f64::from(expected.read)
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { indexes, scanned, returned, read, buffers } = self;
        write!(f, "{returned} rows of {read} read in {buffers} pages")?;
        for table in scanned {
            write!(f, "\n    all of {table}")?;
        }
        for (index, condition) in indexes {
            write!(f, "\n    {index}: {condition}")?;
        }
        Ok(())
    }
}

/// A bound value in the server's binary form.
#[derive(Debug)]
struct Bound<'a>(&'a Parameter);

impl ToSql for Bound<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Some(value) = &self.0.value else { return Ok(IsNull::Yes) };
        out.extend_from_slice(value);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Binary
    }

    to_sql_checked!();
}

/// A connection without Diesel, which shows what it prepared and takes statements that aren't
/// queries.
pub(super) async fn connect(db: &TestDatabase) -> Client {
    let (client, connection) = tokio_postgres::connect(&db.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The statement that prepares a query as `explained`, and its execution.
async fn execution(client: &Client, query: &Query) -> (String, String) {
    let types: Vec<_> = query.parameters.iter().map(|of| Type::from_oid(of.oid).unwrap()).collect();
    if types.is_empty() {
        return (format!("PREPARE explained AS {}", query.sql), "EXECUTE explained".to_owned());
    }
    let list = |items: Vec<String>| items.join(", ");
    let literals = (1..=types.len()).map(|at| format!("quote_nullable(${at}::text)")).collect();
    let select = format!("SELECT ARRAY[{}]", list(literals));
    let select = client.prepare_typed(&select, &types).await.unwrap();
    let bound: Vec<_> = query.parameters.iter().map(Bound).collect();
    let rows = client.query_raw(&select, bound.iter().map(|of| of as &dyn ToSql)).await.unwrap();
    let rows: Vec<_> = rows.try_collect().await.unwrap();
    let literals: Vec<String> = rows.first().unwrap().get(0);
    let names = types.iter().map(|of| of.name().to_owned()).collect();
    (
        format!("PREPARE explained ({}) AS {}", list(names), query.sql),
        format!("EXECUTE explained ({})", list(literals)),
    )
}

/// Explains a query, and undoes what it did.
async fn explain(client: &Client, query: &Query, mode: &str, options: &str) -> Value {
    let (prepare, execute) = execution(client, query).await;
    let begin = format!("BEGIN; SET LOCAL plan_cache_mode = {mode}; {prepare}");
    client.batch_execute(&begin).await.unwrap();
    let explain = format!("EXPLAIN ({options}, FORMAT JSON) {execute}");
    let messages = client.simple_query(&explain).await;
    client.batch_execute("ROLLBACK; DEALLOCATE explained").await.unwrap();
    let messages = messages.unwrap_or_else(|error| panic!("{}: {error:?}", query.name));
    let json = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    serde_json::from_str::<Value>(json.unwrap()).unwrap()[0]["Plan"].take()
}

/// `node` and all below it.
fn nodes(node: &Value) -> Vec<&Value> {
    let below = node["Plans"].as_array().into_iter().flatten().flat_map(nodes);
    std::iter::once(node).chain(below).collect()
}

/// A condition with `?` for each value, whether the plan knows it or not.
fn normalised(condition: &str) -> String {
    let value =
        Regex::new(r"(?:'(?:[^']|'')*'|NULL)::[a-z ]+(?:\[\])?|\$\d+|\(InitPlan \d+\)\.col1")
            .unwrap();
    let condition = value.replace_all(condition, "?");
    // PostgreSQL 18 takes alternatives together.
    let condition = condition.replace("status = ANY (?)", "status = ?");
    condition.strip_prefix('(').and_then(|it| it.strip_suffix(')')).unwrap_or(&condition).to_owned()
}

fn explained(plan: &Value) -> Explained {
    let number = |node: &Value, key: &str| node[key].as_f64().unwrap_or_default();
    let mut explained = Explained { returned: number(plan, "Actual Rows"), ..Explained::default() };
    for node in nodes(plan) {
        let text = |key: &str| node[key].as_str().unwrap_or_default();
        if !text("Index Name").is_empty() {
            let index = (text("Index Name").to_owned(), normalised(text("Index Cond")));
            explained.indexes.insert(index);
        }
        let is_scan = text("Node Type").ends_with("Scan") && !text("Relation Name").is_empty();
        if is_scan {
            if text("Node Type") == "Seq Scan" && text("Relation Name") != STAYS_SMALL {
                explained.scanned.insert(text("Relation Name").to_owned());
            }
            let loops = number(node, "Actual Loops");
            let rows = number(node, "Actual Rows")
                + number(node, "Rows Removed by Filter")
                + number(node, "Rows Removed by Index Recheck");
            // Before PostgreSQL 18 they are averages of all loops without their fraction.
            let lost = if loops > 1.0 && rows.fract() == 0.0 { 0.5 } else { 0.0 };
            explained.read += (rows + lost) * loops;
        }
    }
    let buffers = |key| plan[key].as_u64().unwrap();
    explained.buffers = buffers("Shared Hit Blocks") + buffers("Shared Read Blocks");
    explained
}

/// For each column of a query, whether an outer join may leave it null.
pub(super) async fn outer_joined(client: &Client, query: &Query) -> Vec<bool> {
    let plan = explain(client, query, "force_generic_plan", "VERBOSE").await;
    let mut optional = BTreeSet::new();
    for node in nodes(&plan) {
        let side = match node["Join Type"].as_str() {
            Some("Left") => "Inner",
            Some("Right") => "Outer",
            Some("Full") => panic!("{} has a full join", query.name),
            _ => continue,
        };
        let joined = node["Plans"].as_array().unwrap();
        for node in joined.iter().filter(|node| node["Parent Relationship"] == side) {
            optional.extend(nodes(node).into_iter().filter_map(|node| node["Alias"].as_str()));
        }
    }
    let output = plan["Output"].as_array().unwrap();
    output
        .iter()
        .map(|value| {
            let (alias, _) = value.as_str().unwrap().split_once('.').unwrap_or_default();
            optional.contains(alias)
        })
        .collect()
}

/// Whether a plan is made for the values, or for any.
const MODES: [&str; 2] = ["force_custom_plan", "force_generic_plan"];

/// A query's plan in one of the modes.
struct Planned {
    name: String,
    mode: &'static str,
    expected: Plan,
    found: Explained,
}

#[tokio::test]
async fn queries_read_what_they_return_by_their_indexes_after_any_number_of_versions() {
    let db = seed::database().await;
    let client = connect(&db).await;
    let mut plans = Vec::new();
    for query in all() {
        for mode in MODES {
            let plan = explain(&client, &query, mode, "ANALYZE, BUFFERS, TIMING OFF").await;
            let (name, expected) = (query.name.clone(), query.plan.clone());
            plans.push(Planned { name, mode, expected, found: explained(&plan) });
        }
    }
    let (long, short): (Vec<_>, Vec<_>) =
        plans.into_iter().partition(|plan| plan.name.ends_with(seed::LONG));
    let failures: Vec<_> = short
        .iter()
        .filter(|plan| !plan.found.is(&plan.expected))
        .map(|plan| format!("{} with {}: {}", plan.name, plan.mode, plan.found))
        .collect();
    assert!(failures.is_empty(), "not as registered:\n{}", failures.join("\n"));

    assert_eq!(long.len(), 2 * 7);
    for Planned { name, mode, found: long, .. } in long {
        let short_name = name.strip_suffix(seed::LONG).unwrap();
        let short = short.iter().find(|short| short.name == short_name && short.mode == mode);
        let short = &short.unwrap().found;
        // Of each variant, an entry may be the first or the last of its page.
        let differ = long.buffers.abs_diff(short.buffers);
        assert!(differ <= 4, "{name} with {mode}: {long}\ninstead of {short}");
        assert!(long.buffers > 0 && long.buffers <= 40, "{name} with {mode}: {long}");
        let long = Explained { buffers: short.buffers, ..long };
        assert_eq!(long.to_string(), short.to_string(), "{name} with {mode}");
    }
}

#[tokio::test]
async fn a_long_history_costs_no_more_where_the_planner_expects_short_ones() {
    let db = seed::database().await;
    let client = connect(&db).await;
    // As where nearly every variant has one version.
    let short =
        "ALTER TABLE model_experiment_variant_version ALTER variant_id SET (n_distinct = -1);
        ANALYZE model_experiment_variant_version";
    client.batch_execute(short).await.unwrap();
    let long: Vec<_> = all().into_iter().filter(|query| query.name.ends_with(seed::LONG)).collect();
    assert_eq!(long.len(), 7);
    for query in long {
        for mode in MODES {
            let plan = explain(&client, &query, mode, "ANALYZE, BUFFERS, TIMING OFF").await;
            let found = explained(&plan);
            let name = &query.name;
            assert!(found.buffers > 0 && found.buffers <= 40, "{name} with {mode}: {found}");
            assert!(found.scanned.is_empty() && found.read < 20.0, "{name} with {mode}: {found}");
        }
    }
}
