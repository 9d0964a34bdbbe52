//! The loss ledger: what it lists, what it doesn't, and how attributing empties it.

use crate::support::TestDatabase;
use crate::support::fixtures::{
    Ready, active, draft, insert_usage, raw, ready, record_one, request,
};
use chrono::{DateTime, Duration, Utc};
use diesel_async::AsyncPgConnection;
use model_experiments::experiments::{self, Experiment};
use model_experiments::recording::{Outcome, Usage, record};
use model_experiments::reports::loss_ledger;
use model_experiments::values::{ExperimentId, InvalidValue, Timestamp, UsageId};
use model_experiments::{Cursor, Error, Page};
use serde_json::json;
use std::ops::Range;
use std::slice;
use uuid::Uuid;

const ALL: u16 = 100;

fn epoch() -> Timestamp {
    DateTime::UNIX_EPOCH.try_into().unwrap()
}

/// A window that contains every instant of these tests.
fn always() -> Range<Timestamp> {
    epoch()..Timestamp::MAX
}

/// Inserts a usage on `model` without a request, made at `created_at`.
async fn lose(conn: &mut AsyncPgConnection, model: &str, created_at: Timestamp) -> Usage {
    let requested_model = Some(model.to_owned());
    let usage = Usage { requested_model, created_at, ..Usage::new("user-1") };
    assert!(insert_usage(conn, &usage).await);
    usage
}

async fn listed(conn: &mut AsyncPgConnection, experiment: ExperimentId) -> Vec<Usage> {
    loss_ledger::list(conn, experiment, &always(), Page::first(ALL)).await.unwrap()
}

fn started_at(experiment: &Experiment) -> Timestamp {
    experiment.started_at.unwrap()
}

/// The shortest time between two instants.
const TICK: Duration = Duration::microseconds(1);

#[tokio::test]
async fn usages_without_a_request_are_listed_oldest_first() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let Ready { experiment, control_version, .. } = active(conn, "partner/foo").await;
    let start = started_at(&experiment);
    let later = lose(conn, "partner/foo", start + Duration::hours(1)).await;
    let earlier = lose(conn, "partner/foo", start).await;

    let attributed = Usage { id: UsageId::new(), ..earlier.clone() };
    let outcome = record_one(conn, &attributed, &request(control_version.id)).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    lose(conn, "partner/fo", start).await;
    lose(conn, "partner/foo-2", start).await;
    let unnamed = Usage { id: UsageId::new(), requested_model: None, ..earlier.clone() };
    assert!(insert_usage(conn, &unnamed).await);

    assert_eq!(listed(conn, experiment.id).await, [earlier, later]);
}

#[tokio::test]
async fn usages_before_the_start_or_from_the_end_on_are_not_listed() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = ready(conn, "partner/foo").await.experiment.id;
    lose(conn, "partner/foo", epoch()).await;
    assert_eq!(listed(conn, id).await, []);

    let start = started_at(&experiments::activate(conn, id).await.unwrap());
    let first = lose(conn, "partner/foo", start).await;
    lose(conn, "partner/foo", start - TICK).await;
    assert_eq!(listed(conn, id).await, slice::from_ref(&first));

    experiments::pause(conn, id).await.unwrap();
    let open = lose(conn, "partner/foo", start + Duration::days(1)).await;
    assert_eq!(listed(conn, id).await, [first.clone(), open]);

    let end = experiments::complete(conn, id).await.unwrap().ended_at.unwrap();
    let last = lose(conn, "partner/foo", end - TICK).await;
    lose(conn, "partner/foo", end).await;
    assert_eq!(listed(conn, id).await, [first, last]);
}

#[tokio::test]
async fn usages_outside_of_the_window_are_not_listed() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let experiment = active(conn, "partner/foo").await.experiment;
    let start = started_at(&experiment);
    let mut usages = Vec::new();
    for second in 0..4 {
        usages.push(lose(conn, "partner/foo", start + Duration::seconds(second)).await);
    }
    let second = |number| start + Duration::seconds(number);
    for (window, expected) in [
        (second(0)..second(4), &usages[..]),
        (second(1)..second(3), &usages[1..3]),
        (second(1) + TICK..second(3) + TICK, &usages[2..]),
        (second(2)..second(2), &[]),
        (second(3)..second(1), &[]),
    ] {
        let lost = loss_ledger::list(conn, experiment.id, &window, Page::first(ALL)).await;
        assert_eq!(lost.unwrap(), expected);
    }
}

#[tokio::test]
async fn each_of_two_experiments_on_a_public_model_id_has_the_losses_of_its_own_time() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let first = active(conn, "partner/foo").await.experiment;
    let first = experiments::complete(conn, first.id).await.unwrap();
    let second = active(conn, "partner/foo").await.experiment;
    let third = draft(conn, "partner/foo").await;

    let of_first = lose(conn, "partner/foo", started_at(&first)).await;
    lose(conn, "partner/foo", first.ended_at.unwrap()).await;
    let of_second = lose(conn, "partner/foo", started_at(&second)).await;
    assert_eq!(listed(conn, first.id).await, [of_first]);
    assert_eq!(listed(conn, second.id).await, [of_second]);
    assert_eq!(listed(conn, third.id).await, []);
}

#[tokio::test]
async fn pages_neither_repeat_nor_skip_even_where_instants_are_the_same() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let experiment = active(conn, "partner/foo").await.experiment;
    for second in [0, 1, 1, 1, 1, 2, 3] {
        let at = started_at(&experiment) + Duration::seconds(second);
        lose(conn, "partner/foo", at).await;
    }
    // Ids in another order than that of the insertions.
    raw(conn, "UPDATE microdollar_usage SET id = gen_random_uuid()").await.unwrap();
    let whole = listed(conn, experiment.id).await;
    assert_eq!(whole.len(), 7);
    assert!(whole.is_sorted_by(|a, b| (a.created_at, a.id) < (b.created_at, b.id)));

    for size in [1, 2, 3, 7] {
        let mut paged = Vec::new();
        let mut page = Page::first(size);
        loop {
            let lost = loss_ledger::list(conn, experiment.id, &always(), page).await.unwrap();
            assert!(lost.len() <= size.into());
            let Some(last) = lost.last() else { break };
            page = Page::after(last.cursor(), size);
            paged.extend(lost);
            assert!(paged.len() <= whole.len());
        }
        assert_eq!(paged, whole);
    }
}

#[tokio::test]
async fn attributing_listed_usages_empties_the_list() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let Ready { experiment, control_version, .. } = active(conn, "partner/foo").await;
    for minute in 0..5 {
        let at = started_at(&experiment) + Duration::minutes(minute);
        lose(conn, "partner/foo", at).await;
    }
    for left in (1..=5).rev() {
        let lost = listed(conn, experiment.id).await;
        assert_eq!(lost.len(), left);
        let (first, rest) = lost.split_first().unwrap();
        let outcome = record::attribute(conn, first.id, &request(control_version.id)).await;
        assert_eq!(outcome, Ok(Outcome::Recorded));
        assert_eq!(listed(conn, experiment.id).await, rest);
    }
}

#[tokio::test]
async fn an_experiment_that_was_completed_can_still_be_attributed_to() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let Ready { experiment, control_version, .. } = active(conn, "partner/foo").await;
    let usage = lose(conn, "partner/foo", started_at(&experiment)).await;
    experiments::complete(conn, experiment.id).await.unwrap();
    assert_eq!(listed(conn, experiment.id).await, slice::from_ref(&usage));
    let outcome = record::attribute(conn, usage.id, &request(control_version.id)).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    assert_eq!(listed(conn, experiment.id).await, []);
}

#[tokio::test]
async fn an_unknown_experiment_is_not_found() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    lose(conn, "partner/foo", epoch()).await;
    let id = ExperimentId::from(Uuid::now_v7());
    let lost = loss_ledger::list(conn, id, &always(), Page::first(ALL)).await;
    assert_eq!(lost, Err(Error::ExperimentNotFound(id)));
}

/// A window and a cursor hold timestamps, and none can be made of such an instant. A host may pass
/// cursors on as JSON.
#[test]
fn an_instant_beyond_the_year_9999_or_before_1_is_refused() {
    let never = DateTime::<Utc>::MIN_UTC;
    let expected = InvalidValue::new("timestamp", "must lie in the years 1 to 9999");
    assert_eq!(Timestamp::try_from(never), Err(expected.clone()));

    let cursor = |at: DateTime<Utc>| json!({"at": at, "id": UsageId::new()});
    assert!(serde_json::from_value::<Cursor<UsageId>>(cursor(DateTime::UNIX_EPOCH)).is_ok());
    let refused = serde_json::from_value::<Cursor<UsageId>>(cursor(never)).unwrap_err();
    assert_eq!(refused.to_string(), expected.to_string());
}
