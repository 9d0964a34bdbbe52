//! Recording many records: each has the outcome that it would have alone.

use crate::recording::record::{counted, full_usage, insert_before_second_query};
use crate::support::fixtures::{
    Recorded, active, number, raw_unguarded, record_new, record_one, recorded, request,
};
use crate::support::{TestDatabase, connect};
use model_experiments::Error;
use model_experiments::error::Constraint;
use model_experiments::recording::record::{self, MAX_RECORDS};
use model_experiments::recording::{self, NewRequest, Outcome, Record, Usage};
use model_experiments::values::{
    AllocationSubject, RequestBodyRef, Sha256Digest, SystemPromptRef, UsageId, VersionId,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uuid::Uuid;

fn records(number: usize, version: VersionId) -> Vec<Record> {
    (0..number).map(|_| Record::new(Usage::new("user-1"), request(version))).collect()
}

#[tokio::test]
async fn more_text_than_a_message_holds_is_refused_at_once() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let text = Some("x".repeat(65_536));
    let usage = Usage { model: text.clone(), provider: text, ..Usage::new("user-1") };
    let large = Record::new(usage, request(version));
    let message = "records must have at most 512 MiB of text";
    // Half a GiB is 4,096 such records, but for the users' ids.
    let refused = record::many(conn, &[&large; 4_096]).await.unwrap_err();
    assert_eq!(refused.to_string(), message);
    let refused = record::usages(conn, &[&large.usage; 4_096]).await.unwrap_err();
    assert_eq!(refused.to_string(), message);
    let named = request(version).client_request_id("x".repeat(2_048));
    let requests = vec![(large.usage.id, &named); 10_000];
    assert!(record::attribute_many(conn, &requests).await.is_ok());
    assert_eq!(recorded(conn).await, Recorded::NONE);
    let outcomes = record::many(conn, &[&large; 10]).await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
}

#[tokio::test]
async fn each_is_recorded_as_it_was_given() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let active = active(conn, "partner/foo").await;
    let digest = Sha256Digest::of("x");
    let full = NewRequest::new(active.candidate_version.id, AllocationSubject::Ip)
        .client_request_id("client-1")
        .prompt_refs(SystemPromptRef::Sha256(digest), RequestBodyRef::Sha256(digest));
    let given = [
        Record::new(full_usage(), full),
        Record::new(Usage::new("é, \"\\{NULL}"), request(active.control_version.id)),
        Record::new(full_usage(), request(active.control_version.id).client_request_id("")),
    ];
    assert_eq!(record::many(conn, &given).await, Ok(vec![Ok(Outcome::Recorded); 3]));
    for Record { usage, request } in &given {
        assert_eq!(recording::find_usage(conn, usage.id).await.unwrap().as_ref(), Some(usage));
        let stored = recording::find_request(conn, usage.id).await.unwrap().unwrap();
        assert_eq!(stored.created_at, usage.created_at);
        // Repeated alone, it is the same to the last column.
        let again = record_one(conn, usage, request).await;
        assert_eq!(again, Ok(Outcome::AlreadyRecorded));
    }
}

#[tokio::test]
async fn one_to_ten_thousand_take_one_statement() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let queries = counted(conn);
    let mut expected = 0;
    // None takes no statement.
    for (statements, many) in [0, 1, 2, 3_000, MAX_RECORDS].into_iter().enumerate() {
        let new = records(many, version);
        let outcomes = record::many(conn, &new).await.unwrap();
        assert_eq!(outcomes, vec![Ok(Outcome::Recorded); many]);
        expected += many as i64;
        assert_eq!(queries.load(Ordering::Relaxed), statements, "{many}");
    }
    assert_eq!(recorded(conn).await, Recorded::both(expected));

    let again = record::many(conn, &records(MAX_RECORDS + 1, version)).await;
    assert!(matches!(&again, Err(Error::Invalid(invalid)) if invalid.field() == "records"));
    assert_eq!(recorded(conn).await, Recorded::both(expected));
}

#[tokio::test]
async fn each_record_has_its_own_outcome_in_the_order_given() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let [new, same, other, lacking, refused, twice] =
        [(); 6].map(|()| Record::new(full_usage(), request(version)));
    for Record { usage, request } in [&same, &other, &lacking] {
        record_new(conn, usage, request).await;
    }
    let id = lacking.usage.id;
    let delete = format!("DELETE FROM model_experiment_request WHERE usage_id = '{id}'");
    raw_unguarded(conn, &delete).await;
    let with = |record: &Record, cost, client: &str| {
        let usage = Usage { cost, ..record.usage.clone() };
        Record::new(usage, record.request.clone().client_request_id(client))
    };
    let given = [
        with(&twice, 1, "a"),
        with(&refused, 1, "\0"),
        with(&other, 2, "b"),
        same.clone(),
        with(&twice, 1, "b"),
        new.clone(),
        lacking.clone(),
        with(&twice, 1, "a"),
    ];
    let differently = |record: &Record, columns: &[&'static str]| {
        Err(Error::RecordedDifferently { usage: record.usage.id, columns: columns.to_vec() })
    };
    let mut outcomes = record::many(conn, &given).await.unwrap();
    let invalid = outcomes.remove(1);
    assert!(
        matches!(&invalid, Err(Error::Invalid(invalid)) if invalid.field() == "client_request_id")
    );
    assert_eq!(
        outcomes,
        [
            Ok(Outcome::Recorded),
            differently(&other, &["cost", "client_request_id"]),
            Ok(Outcome::AlreadyRecorded),
            differently(&twice, &["client_request_id"]),
            Ok(Outcome::Recorded),
            Ok(Outcome::Recorded),
            Ok(Outcome::AlreadyRecorded),
        ]
    );
    assert_eq!(recorded(conn).await, Recorded::both(5));
}

#[tokio::test]
async fn none_is_recorded_when_one_can_not_be() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let unknown = VersionId::from(Uuid::now_v7());
    let bad = Record::new(Usage::new("user-1"), request(unknown));
    let [first, last] = [(); 2].map(|()| Record::new(Usage::new("user-1"), request(version)));
    let violated = Err(Error::Violated { constraint: Constraint::RequestVersion });
    assert_eq!(record::many(conn, &[&first, &bad, &last]).await, violated);
    assert_eq!(recorded(conn).await, Recorded::NONE);
    assert_eq!(record::many(conn, &[&bad]).await, Err(Error::VersionNotFound(unknown)));
    assert_eq!(recorded(conn).await, Recorded::NONE);
}

#[tokio::test]
async fn usages_are_billed_first_and_attributed_later() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let (first, second) = (full_usage(), Usage::new("user-1"));
    let changed = Usage { cost: 0, ..first.clone() };
    for expected in [Outcome::Recorded, Outcome::AlreadyRecorded] {
        let outcomes = record::usages(conn, &[&first, &second]).await;
        assert_eq!(outcomes, Ok(vec![Ok(expected); 2]));
    }
    let conflict = Error::RecordedDifferently { usage: changed.id, columns: vec!["cost"] };
    let outcomes = record::usages(conn, &[&changed, &second]).await;
    assert_eq!(outcomes, Ok(vec![Err(conflict), Ok(Outcome::AlreadyRecorded)]));
    assert_eq!(recorded(conn).await, Recorded { usages: 2, requests: 0 });

    let (unknown, new) = (UsageId::new(), request(version));
    for expected in [Outcome::Recorded, Outcome::AlreadyRecorded] {
        let ids = [second.id, unknown, first.id];
        let outcomes = record::attribute_many(conn, &ids.map(|id| (id, &new))).await;
        let missing = Err(Error::UsageNotFound(unknown));
        assert_eq!(outcomes, Ok(vec![Ok(expected), missing, Ok(expected)]));
    }
    assert_eq!(recorded(conn).await, Recorded::both(2));
    let equal = "SELECT count(*) AS number FROM microdollar_usage AS usage
        JOIN model_experiment_request AS request ON usage_id = usage.id
        WHERE usage.created_at = request.created_at";
    assert_eq!(number(conn, equal).await, 2);
}

#[tokio::test]
async fn usages_that_are_billed_while_they_are_looked_for_are_attributed() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let version = active(conn, "partner/foo").await.control_version.id;
    let (usages, new) = ([full_usage(), full_usage()], request(version));
    insert_before_second_query(conn, db.url(), usages.to_vec());
    let given = usages.each_ref().map(|usage| (usage.id, &new));
    let outcomes = record::attribute_many(conn, &given).await;
    assert_eq!(outcomes, Ok(vec![Ok(Outcome::Recorded); 2]));
    assert_eq!(recorded(conn).await, Recorded::both(2));
}

/// Writers record the same records in different orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_never_wait_for_each_other_in_a_circle() {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 20;
    let db = TestDatabase::new().await;
    let version = active(&mut db.connect().await, "partner/foo").await.control_version.id;
    let rounds: Arc<Vec<_>> = Arc::new((0..ROUNDS).map(|_| records(100, version)).collect());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (url, rounds) = (db.url(), Arc::clone(&rounds));
            tokio::spawn(async move {
                let conn = &mut connect(&url).await.unwrap();
                let mut new = 0;
                for records in rounds.iter() {
                    let mut records = records.clone();
                    records.rotate_left(100 * writer / WRITERS);
                    if writer == 0 {
                        records.reverse();
                    }
                    let outcomes = record::many(conn, &records).await.unwrap();
                    new += outcomes.iter().filter(|of| **of == Ok(Outcome::Recorded)).count();
                    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
                }
                new
            })
        })
        .collect();
    let mut new = 0;
    for writer in writers {
        new += writer.await.unwrap();
    }
    assert_eq!(new, ROUNDS * 100);
    let conn = &mut db.connect().await;
    assert_eq!(recorded(conn).await, Recorded::both(ROUNDS as i64 * 100));
}
