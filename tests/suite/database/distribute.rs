//! What Citus demands of the migrations, and `docs/distribute.sql`, as far as PostgreSQL alone can
//! say it.

use crate::support::{TestDatabase, dump, repository};
use futures_util::stream::{self, StreamExt};
use regex::Regex;
use tokio_postgres::{AsyncMessage, NoTls};

const DISTRIBUTE: &str = include_str!("../../../docs/distribute.sql");

/// Runs `sql`, and returns the notices that the server sends.
async fn notices(url: &str, sql: &str) -> Vec<String> {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let messages = stream::poll_fn(move |context| connection.poll_message(context));
    let notice = |message| async {
        match message {
            Ok(AsyncMessage::Notice(notice)) => Some(notice.message().to_owned()),
            other => panic!("{:?}", other.err()),
        }
    };
    let run = async move { client.batch_execute(sql).await.unwrap() };
    tokio::join!(messages.filter_map(notice).collect(), run).0
}

/// The statements of `sql`, without comments and without what stands in blocks and functions.
fn statements(sql: &str) -> Vec<String> {
    let comments = Regex::new("--.*").unwrap();
    let bodies = Regex::new(r"(?s)\$\$.*?\$\$").unwrap();
    let outside = bodies.replace_all(&comments.replace_all(sql, ""), "").into_owned();
    outside.split(';').map(|statement| statement.trim().to_owned()).collect()
}

/// The table that a statement changes which isn't made by it.
fn changed_table(statement: &str) -> Option<String> {
    let change = r"^(?s:ALTER TABLE (\w+)|(?:CREATE|DROP) .*?(?:INDEX|TRIGGER) .*? ON (\w+)|DROP INDEX (\S+))";
    let captures = Regex::new(change).unwrap().captures(statement)?;
    captures.iter().skip(1).flatten().next().map(|name| name.as_str().to_owned())
}

#[tokio::test]
async fn without_citus_distributing_says_so_and_changes_nothing() {
    let db = TestDatabase::new().await;
    let before = dump::dump(&db.url(), &[]);
    for _ in 0..2 {
        assert_eq!(
            notices(&db.url(), DISTRIBUTE).await,
            ["nothing is distributed: the extension citus is not installed here"]
        );
    }
    assert_eq!(dump::dump(&db.url(), &[]), before);
}

#[test]
fn a_change_of_an_older_table_is_a_query_of_its_own() {
    let mut blocks = 0;
    for migration in repository::migrations() {
        for sql in [&migration.up, &migration.down] {
            blocks += sql.matches("DO $$").count();
            for statement in statements(sql) {
                let Some(table) = changed_table(&statement) else { continue };
                let is_new = sql.contains(&format!("CREATE TABLE {table} ("));
                assert!(is_new, "{}: in a DO block, please: {statement}", migration.name);
            }
        }
    }
    assert!(blocks >= 6, "{blocks}");
}

#[test]
fn a_change_of_a_table_has_one_subcommand() {
    let alter = Regex::new(r"ALTER TABLE [^;]*").unwrap();
    let subcommand = Regex::new(r"\b(ADD|DROP|ALTER|VALIDATE) (COLUMN|CONSTRAINT)\b").unwrap();
    let mut changes = 0;
    for migration in repository::migrations() {
        for sql in [&migration.up, &migration.down] {
            for change in alter.find_iter(sql) {
                let count = subcommand.find_iter(change.as_str()).count();
                assert!(count <= 1, "{}: {}", migration.name, change.as_str());
                changes += count;
            }
        }
    }
    assert!(changes >= 14, "{changes}");
}
