//! A request says for good which version served it, and when. What may be wiped is wiped.

use crate::support::TestDatabase;
use crate::support::fixtures::{Counts, active, counts, raw, record_new, request};
use model_experiments::Error;
use model_experiments::error::Constraint;
use model_experiments::recording::{self, Usage};
use model_experiments::values::{RequestBodyRef, SystemPromptRef};

const KEPT: Error = Error::Violated { constraint: Constraint::RequestKept };

#[tokio::test]
async fn what_was_served_and_when_is_never_rewritten() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    let [served, other] = [foo.control_version.id, foo.candidate_version.id];
    let usages = [(); 2].map(|()| Usage::new("user-1"));
    record_new(conn, &usages[0], &request(served).client_request_id("client-1")).await;
    let before = recording::find_request(conn, usages[0].id).await.unwrap();
    let hash = "0123456789abcdef".repeat(4);
    for change in [
        format!("variant_version_id = '{other}'"),
        "allocation_subject = 'ip'".to_owned(),
        "created_at = created_at - interval '1 us'".to_owned(),
        "was_truncated = true".to_owned(),
        "client_request_id = 'client-2'".to_owned(),
        format!("system_prompt_sha256 = '{hash}'"),
        "system_prompt_sha256 = '__absent__'".to_owned(),
        format!("request_body_sha256 = '{hash}'"),
        format!("request_body_sha256 = '{hash}', system_prompt_sha256 = '__deleted__'"),
    ] {
        let sql = format!("UPDATE model_experiment_request SET {change}");
        assert_eq!(raw(conn, &sql).await.map_err(Error::from), Err(KEPT), "{change}");
    }
    for sql in [
        "DELETE FROM model_experiment_request",
        "DELETE FROM model_experiment_request WHERE client_request_id = 'client-1'",
    ] {
        assert_eq!(raw(conn, sql).await.map_err(Error::from), Err(KEPT), "{sql}");
    }
    assert_eq!(recording::find_request(conn, usages[0].id).await.unwrap(), before);
}

#[tokio::test]
async fn a_prompt_and_a_clients_id_are_wiped() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let usage = Usage::new("user-1");
    record_new(conn, &usage, &request(version).client_request_id("client-1")).await;
    for wipe in [
        "system_prompt_sha256 = '__deleted__'",
        "request_body_sha256 = '__deleted__', client_request_id = NULL",
        "request_body_sha256 = '__deleted__', was_truncated = was_truncated",
    ] {
        raw(conn, &format!("UPDATE model_experiment_request SET {wipe}")).await.unwrap();
    }
    let wiped = recording::find_request(conn, usage.id).await.unwrap().unwrap();
    assert_eq!(wiped.system_prompt_sha256, SystemPromptRef::Deleted);
    assert_eq!(wiped.request_body_sha256, RequestBodyRef::Deleted);
    assert_eq!(wiped.client_request_id, None);
    // A wiped reference stays so.
    let restore = "UPDATE model_experiment_request SET system_prompt_sha256 = '__absent__'";
    assert_eq!(raw(conn, restore).await.map_err(Error::from), Err(KEPT));
}

#[tokio::test]
async fn a_request_goes_with_its_usage() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    for _ in 0..3 {
        record_new(conn, &Usage::new("user-1"), &request(version)).await;
    }
    raw(conn, "DELETE FROM microdollar_usage WHERE id = (SELECT min(id::text)::uuid FROM microdollar_usage)")
        .await
        .unwrap();
    let left = counts(conn).await;
    assert_eq!((left.usages, left.requests), (2, 2));
    // The host's usages may be in another schema, under another name.
    raw(
        conn,
        "CREATE SCHEMA billing; ALTER TABLE microdollar_usage SET SCHEMA billing;
         ALTER TABLE billing.microdollar_usage RENAME TO ledger",
    )
    .await
    .unwrap();
    let delete = "DELETE FROM model_experiment_request";
    assert_eq!(raw(conn, delete).await.map_err(Error::from), Err(KEPT));
    raw(
        conn,
        "DELETE FROM billing.ledger; ALTER TABLE billing.ledger RENAME TO microdollar_usage;
         ALTER TABLE billing.microdollar_usage SET SCHEMA public",
    )
    .await
    .unwrap();
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 2, versions: 2, ..Counts::default() }
    );
}
