//! The privileges of `docs/privileges.md`: with all that it lists, each operation works, and
//! without any one of them the database refuses it.

use crate::database::operations::{Rows, rows, run};
use crate::support::TestDatabase;
use crate::support::fixtures::Role;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};
use model_experiments::{Error, Result};

const DOCUMENT: &str = include_str!("../../../docs/privileges.md");

/// The names of the document for all columns of a table, but for the key.
const COLUMNS: [(&str, &str); 5] = [
    (
        "EXPERIMENT",
        "id public_model_id name description status is_archived created_by_user_id created_at
         updated_at started_at ended_at",
    ),
    ("VARIANT", "id experiment_id label weight created_at updated_at"),
    ("VERSION", "id variant_id upstream effective_at created_by created_at"),
    (
        "USAGE",
        "id kilo_user_id cost input_tokens output_tokens cache_write_tokens cache_hit_tokens
         created_at provider model requested_model cache_discount has_error abuse_classification
         organization_id inference_provider project_id",
    ),
    (
        "REQUEST",
        "usage_id variant_version_id allocation_subject client_request_id system_prompt_sha256
         request_body_sha256 was_truncated created_at",
    ),
];

/// The operations of the document, each with its privileges, a column each.
pub fn documented() -> Vec<(&'static str, Vec<String>)> {
    let block = DOCUMENT.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let mut operations: Vec<(&str, Vec<String>)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("    "), operations.last_mut()) {
            (Some(privilege), Some((_, privileges))) => privileges.extend(of_columns(privilege)),
            _ => operations.push((line.strip_suffix(':').unwrap(), Vec::new())),
        }
    }
    operations
}

/// `SELECT (id) ON model_experiment` and so on, of `SELECT model_experiment: id …`.
fn of_columns(privilege: &str) -> Vec<String> {
    let (kind, table) = privilege.split_once(' ').unwrap();
    let Some((table, columns)) = table.split_once(": ") else {
        return vec![format!("{kind} ON {table}")];
    };
    let all =
        COLUMNS.iter().fold(columns.to_owned(), |columns, (name, all)| columns.replace(name, all));
    all.split_whitespace().map(|column| format!("{kind} ({column}) ON {table}")).collect()
}

/// Runs an operation, and undoes it.
async fn tried(conn: &mut AsyncPgConnection, operation: &str, rows: &Rows) -> Result<()> {
    AnsiTransactionManager::begin_transaction(conn).await.unwrap();
    let outcome = run(conn, operation, rows).await;
    AnsiTransactionManager::rollback_transaction(conn).await.unwrap();
    outcome
}

#[tokio::test]
async fn each_operation_needs_what_is_documented_and_nothing_else() {
    let db = TestDatabase::new().await;
    let (owner, conn) = (&mut db.connect().await, &mut db.connect().await);
    let rows = rows(owner).await;
    let role = Role::new(owner, "GRANT USAGE ON SCHEMA public TO $role").await;
    role.assume(conn).await;
    let operations = documented();
    assert_eq!(operations.len(), 21);
    let mut withheld = 0;
    for (operation, privileges) in operations {
        for privilege in &privileges {
            role.sql(owner, &format!("GRANT {privilege} TO $role")).await;
        }
        let outcome = tried(conn, operation, &rows).await;
        assert_eq!(outcome, Ok(()), "{operation}");
        for privilege in &privileges {
            role.sql(owner, &format!("REVOKE {privilege} FROM $role")).await;
            match tried(conn, operation, &rows).await {
                Err(Error::Database(cause)) if cause.message().contains("permission denied") => {}
                outcome => panic!("{operation} without {privilege}: {outcome:?}"),
            }
            role.sql(owner, &format!("GRANT {privilege} TO $role")).await;
            withheld += 1;
        }
        for privilege in &privileges {
            role.sql(owner, &format!("REVOKE {privilege} FROM $role")).await;
        }
    }
    assert!(withheld > 250, "{withheld}");
    role.drop(owner).await;
}
