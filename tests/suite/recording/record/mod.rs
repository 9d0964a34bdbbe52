//! Recording a usage with its request: both or neither, once, and safe to repeat.

mod many;
mod sequences;

use crate::support::fixtures::{
    Counts, active, counts, insert_usage, number, raw, raw_unguarded, record_new, record_one,
    request, text,
};
use crate::support::{TestDatabase, connect};
use chrono::TimeZone;
use diesel::connection::InstrumentationEvent;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use model_experiments::Error;
use model_experiments::recording::{self, NewRequest, Outcome, Usage, record};
use model_experiments::values::{
    AllocationSubject, PromptCapture, RequestBodyRef, Sha256Digest, SystemPromptRef, Timestamp,
    UsageId, VersionId,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use uuid::Uuid;

pub fn full_usage() -> Usage {
    Usage {
        cost: i64::MAX,
        input_tokens: 1_200,
        output_tokens: 80,
        cache_write_tokens: 7,
        cache_hit_tokens: 9,
        provider: Some("partner".to_owned()),
        model: Some("foo-rc1".to_owned()),
        requested_model: Some("partner/foo".to_owned()),
        cache_discount: Some(-3),
        has_error: true,
        abuse_classification: -1,
        organization_id: Some(Uuid::now_v7()),
        inference_provider: Some("inference".to_owned()),
        project_id: Some("project".to_owned()),
        ..Usage::new("user-1")
    }
}

#[tokio::test]
async fn a_usage_and_its_request_are_recorded_as_they_were_given() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let body = json!({"messages": [
        {"role": "system", "content": "S"}, {"role": "user", "content": "U"},
    ]});
    let capture = PromptCapture::of(&body);
    let usage = full_usage();
    let request = NewRequest::new(version, AllocationSubject::Machine)
        .client_request_id("client-1")
        .prompt(&capture);
    let outcome = record_one(conn, &usage, &request).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));

    let stored =
        "SELECT (to_jsonb(usage) - 'created_at')::text AS text FROM microdollar_usage AS usage";
    assert_eq!(
        serde_json::from_str::<Value>(&text(conn, stored).await).unwrap(),
        json!({
            "id": usage.id, "kilo_user_id": "user-1", "cost": i64::MAX, "input_tokens": 1_200,
            "output_tokens": 80, "cache_write_tokens": 7, "cache_hit_tokens": 9,
            "provider": "partner", "model": "foo-rc1", "requested_model": "partner/foo",
            "cache_discount": -3, "has_error": true, "abuse_classification": -1,
            "organization_id": usage.organization_id, "inference_provider": "inference",
            "project_id": "project",
        })
    );
    assert_eq!(recording::find_usage(conn, usage.id).await.unwrap().as_ref(), Some(&usage));
    let stored = recording::find_request(conn, usage.id).await.unwrap().unwrap();
    assert_eq!((stored.usage_id, stored.variant_version_id), (usage.id, version));
    assert_eq!(stored.allocation_subject, AllocationSubject::Machine);
    assert_eq!(stored.client_request_id.as_deref(), Some("client-1"));
    assert_eq!(stored.system_prompt_sha256, SystemPromptRef::Sha256(Sha256Digest::of("S")));
    assert_eq!(stored.request_body_sha256, capture.request_body_ref());
    assert!(!stored.was_truncated);
    assert_eq!(stored.created_at, usage.created_at);
}

#[tokio::test]
async fn a_request_without_a_prompt_says_that_it_was_not_captured() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let usage = Usage::new("user-1");
    let outcome = record_one(conn, &usage, &request(version)).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    let stored = recording::find_request(conn, usage.id).await.unwrap().unwrap();
    assert_eq!(stored.system_prompt_sha256, SystemPromptRef::Failed);
    assert_eq!(stored.request_body_sha256, RequestBodyRef::Failed);
    assert_eq!(stored.client_request_id, None);
}

#[tokio::test]
async fn every_reference_is_stored() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let digest = Sha256Digest::of("x");
    for (system, body) in [
        (SystemPromptRef::Sha256(digest), RequestBodyRef::Sha256(digest)),
        (SystemPromptRef::Absent, RequestBodyRef::Failed),
        (SystemPromptRef::Failed, RequestBodyRef::Deleted),
        (SystemPromptRef::Deleted, RequestBodyRef::Deleted),
    ] {
        let usage = Usage::new("user-1");
        let new = request(version).prompt_refs(system, body);
        assert_eq!(record_one(conn, &usage, &new).await, Ok(Outcome::Recorded));
        let stored = recording::find_request(conn, usage.id).await.unwrap().unwrap();
        assert_eq!((stored.system_prompt_sha256, stored.request_body_sha256), (system, body));
    }
}

#[tokio::test]
async fn repeating_a_record_changes_nothing() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let (usage, request) = (full_usage(), request(version).client_request_id("client-1"));
    for expected in [Outcome::Recorded, Outcome::AlreadyRecorded, Outcome::AlreadyRecorded] {
        assert_eq!(record_one(conn, &usage, &request).await, Ok(expected));
    }
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 2, versions: 2, usages: 1, requests: 1 }
    );
}

#[tokio::test]
async fn repeating_a_record_with_other_content_is_a_conflict_that_names_the_columns() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let active = active(conn, "partner/foo").await;
    let (usage, request) = (full_usage(), request(active.control_version.id));
    assert_eq!(record_one(conn, &usage, &request).await, Ok(Outcome::Recorded));

    let other = |text: &str| Some(text.to_owned());
    let later = chrono::Utc.with_ymd_and_hms(2030, 1, 1, 0, 0, 0).unwrap();
    let usages = [
        ("kilo_user_id", Usage { kilo_user_id: "x".to_owned(), ..usage.clone() }),
        ("cost", Usage { cost: 0, ..usage.clone() }),
        ("input_tokens", Usage { input_tokens: 0, ..usage.clone() }),
        ("output_tokens", Usage { output_tokens: 0, ..usage.clone() }),
        ("cache_write_tokens", Usage { cache_write_tokens: 0, ..usage.clone() }),
        ("cache_hit_tokens", Usage { cache_hit_tokens: 0, ..usage.clone() }),
        ("created_at", Usage { created_at: later.try_into().unwrap(), ..usage.clone() }),
        ("provider", Usage { provider: None, ..usage.clone() }),
        ("model", Usage { model: other("x"), ..usage.clone() }),
        ("requested_model", Usage { requested_model: None, ..usage.clone() }),
        ("cache_discount", Usage { cache_discount: None, ..usage.clone() }),
        ("has_error", Usage { has_error: false, ..usage.clone() }),
        ("abuse_classification", Usage { abuse_classification: 0, ..usage.clone() }),
        ("organization_id", Usage { organization_id: None, ..usage.clone() }),
        ("inference_provider", Usage { inference_provider: other("x"), ..usage.clone() }),
        ("project_id", Usage { project_id: None, ..usage.clone() }),
    ];
    for (column, changed) in usages {
        let conflict = Error::RecordedDifferently { usage: usage.id, columns: vec![column] };
        assert_eq!(record_one(conn, &changed, &request).await, Err(conflict));
    }

    let version = active.candidate_version.id;
    let digest = Sha256Digest::of("x");
    let long = json!({"messages": [{"role": "user", "content": "x".repeat(5 << 20)}]});
    let requests = [
        (vec!["variant_version_id"], NewRequest::new(version, AllocationSubject::User)),
        (
            vec!["allocation_subject"],
            NewRequest::new(active.control_version.id, AllocationSubject::Ip),
        ),
        (vec!["client_request_id"], request.clone().client_request_id("x")),
        (
            vec!["system_prompt_sha256"],
            request.clone().prompt_refs(SystemPromptRef::Absent, RequestBodyRef::Failed),
        ),
        (
            vec!["request_body_sha256"],
            request.clone().prompt_refs(SystemPromptRef::Failed, RequestBodyRef::Sha256(digest)),
        ),
        (
            vec!["system_prompt_sha256", "request_body_sha256", "was_truncated"],
            request.clone().prompt(&PromptCapture::of(&long)),
        ),
    ];
    for (columns, changed) in requests {
        let conflict = Err(Error::RecordedDifferently { usage: usage.id, columns });
        assert_eq!(record_one(conn, &usage, &changed).await, conflict);
        assert_eq!(record::attribute(conn, usage.id, &changed).await, conflict);
    }
    assert_eq!(record_one(conn, &usage, &request).await, Ok(Outcome::AlreadyRecorded));
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 2, versions: 2, usages: 1, requests: 1 }
    );
}

#[tokio::test]
async fn neither_is_recorded_when_one_can_not_be() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let unknown = VersionId::from(Uuid::now_v7());
    let usage = Usage::new("user-1");
    assert_eq!(
        record_one(conn, &usage, &request(unknown)).await,
        Err(Error::VersionNotFound(unknown))
    );

    for (field, usage, request) in [
        ("kilo_user_id", Usage::new("\0"), request(version)),
        ("model", Usage { model: Some("\0".to_owned()), ..usage.clone() }, request(version)),
        ("client_request_id", usage.clone(), request(version).client_request_id("\0")),
        ("client_request_id", usage.clone(), request(version).client_request_id("x".repeat(2_049))),
        ("kilo_user_id", Usage::new("x".repeat(2_049)), request(version)),
    ] {
        match record_one(conn, &usage, &request).await {
            Err(Error::Invalid(invalid)) => assert_eq!(invalid.field(), field),
            outcome => panic!("{outcome:?}"),
        }
    }
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 2, versions: 2, ..Counts::default() }
    );

    // The longest text that is accepted fits into every index, however little it compresses.
    let long: String = (0..2_048_u32).map(|at| char::from(b'!' + (at * at % 89) as u8)).collect();
    let request = request(version).client_request_id(&long);
    let outcome = record_one(conn, &Usage::new(&long), &request).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
}

#[tokio::test]
async fn a_usage_that_was_billed_first_is_attributed_later() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let id = UsageId::new();
    let bill = format!(
        "INSERT INTO microdollar_usage (id, kilo_user_id, cost, input_tokens, output_tokens,
            cache_write_tokens, cache_hit_tokens, created_at)
         VALUES ('{id}', 'user-1', 1, 2, 3, 4, 5, '2026-01-02 03:04:05.678901+00')"
    );
    raw(conn, &bill).await.unwrap();
    let new = request(version).client_request_id("client-1");
    for expected in [Outcome::Recorded, Outcome::AlreadyRecorded] {
        assert_eq!(record::attribute(conn, id, &new).await, Ok(expected));
    }
    let stored = recording::find_request(conn, id).await.unwrap().unwrap();
    assert_eq!(stored.created_at.to_string(), "2026-01-02T03:04:05.678901Z");

    let unknown = UsageId::new();
    assert_eq!(record::attribute(conn, unknown, &new).await, Err(Error::UsageNotFound(unknown)));
    let version = VersionId::from(Uuid::now_v7());
    raw_unguarded(conn, "DELETE FROM model_experiment_request").await;
    assert_eq!(
        record::attribute(conn, id, &request(version)).await,
        Err(Error::VersionNotFound(version))
    );
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 2, versions: 2, usages: 1, ..Counts::default() }
    );
}

#[tokio::test]
async fn a_usage_that_is_billed_while_it_is_looked_for_is_attributed() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let (usage, new) = (Usage::new("user-1"), request(version));
    insert_before_second_query(conn, db.url(), vec![usage.clone()]);
    for expected in [Outcome::Recorded, Outcome::AlreadyRecorded] {
        assert_eq!(record::attribute(conn, usage.id, &new).await, Ok(expected));
    }
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 2, versions: 2, usages: 1, requests: 1 }
    );
}

/// Inserts `usages` from another connection just before the second query on `conn`: the first one
/// hasn't found them.
fn insert_before_second_query(conn: &mut AsyncPgConnection, url: String, usages: Vec<Usage>) {
    let queries = AtomicUsize::new(0);
    conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        let is_query = matches!(event, InstrumentationEvent::StartQuery { .. });
        if is_query && queries.fetch_add(1, Ordering::Relaxed) == 1 {
            let (url, usages) = (url.clone(), usages.clone());
            std::thread::spawn(move || insert(&url, &usages)).join().unwrap();
        }
    });
}

#[tokio::main(flavor = "current_thread")]
async fn insert(url: &str, usages: &[Usage]) {
    let conn = &mut connect(url).await.unwrap();
    for usage in usages {
        assert!(insert_usage(conn, usage).await);
    }
}

/// Counts the queries that the connection begins from now on.
fn counted(conn: &mut AsyncPgConnection) -> Arc<AtomicUsize> {
    let queries = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&queries);
    conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { .. } = event {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    queries
}

#[tokio::test]
async fn a_usage_that_lacks_its_request_gets_it_when_both_are_recorded() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let usage = full_usage();
    record_new(conn, &usage, &request(version)).await;
    raw_unguarded(conn, "DELETE FROM model_experiment_request").await;

    let changed = Usage { cost: 0, ..usage.clone() };
    let conflict = Error::RecordedDifferently { usage: usage.id, columns: vec!["cost"] };
    assert_eq!(record_one(conn, &changed, &request(version)).await, Err(conflict));
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 2, versions: 2, usages: 1, ..Counts::default() }
    );
    let outcome = record_one(conn, &usage, &request(version)).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 2, versions: 2, usages: 1, requests: 1 }
    );
}

#[tokio::test]
async fn instants_are_equal_to_the_microsecond_and_in_leap_seconds() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let nanoseconds = [1_700_000_000_123_456_789, 1_700_000_000_999_999_999, -1];
    let leap = "2016-12-31T23:59:60.5Z".parse().unwrap();
    for instant in nanoseconds.map(|at| chrono::Utc.timestamp_nanos(at)).into_iter().chain([leap]) {
        let created_at = Timestamp::try_from(instant).unwrap();
        let usage = Usage { created_at, ..Usage::new("user-1") };
        for expected in [Outcome::Recorded, Outcome::AlreadyRecorded] {
            let outcome = record_one(conn, &usage, &request(version)).await;
            assert_eq!(outcome, Ok(expected));
        }
    }
    let same = "SELECT count(*) AS number FROM microdollar_usage AS usage
        JOIN model_experiment_request AS request ON usage_id = usage.id
        WHERE usage.created_at = request.created_at";
    assert_eq!(number(conn, same).await, 4);
}

#[tokio::test]
async fn requests_are_listed_by_the_clients_id_oldest_first() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let mut expected = Vec::new();
    for client_request_id in ["a", "b", "a", "c", "a"] {
        let usage = Usage::new("user-1");
        let new = request(version).client_request_id(client_request_id);
        record_new(conn, &usage, &new).await;
        if client_request_id == "a" {
            expected.push(usage.id);
        }
    }
    let listed = recording::list_requests(conn, "a").await.unwrap();
    assert_eq!(listed.iter().map(|request| request.usage_id).collect::<Vec<_>>(), expected);
    assert_eq!(recording::list_requests(conn, "d").await.unwrap(), []);
    let refused = recording::list_requests(conn, "\0").await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    assert_eq!(recording::find_request(conn, UsageId::new()).await.unwrap(), None);
    assert_eq!(recording::find_usage(conn, UsageId::new()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_callers_records_the_same_record() {
    const CALLERS: usize = 16;
    let db = TestDatabase::new().await;
    let pool = db.pool(8);
    let version = active(&mut db.connect().await, "partner/foo").await.control_version.id;
    let (usage, new) = (full_usage(), request(version));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (pool, usage, new) = (pool.clone(), usage.clone(), new.clone());
            tokio::spawn(async move {
                let conn = &mut pool.get().await?;
                record_one(conn, &usage, &new).await
            })
        })
        .collect();
    let mut recorded = 0;
    for caller in callers {
        recorded += usize::from(caller.await.unwrap().unwrap() == Outcome::Recorded);
    }
    assert_eq!(recorded, 1);
    assert_eq!(
        counts(&mut db.connect().await).await,
        Counts { experiments: 1, variants: 2, versions: 2, usages: 1, requests: 1 }
    );
}

#[tokio::test]
async fn recording_costs_one_round_trip() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let queries = counted(conn);
    for expected in [1, 2] {
        let outcome = record_one(conn, &full_usage(), &request(version)).await;
        assert_eq!(outcome, Ok(Outcome::Recorded));
        assert_eq!(queries.load(Ordering::Relaxed), expected);
    }
}
