//! Overviews, summaries and feedback.

use crate::support::TestDatabase;
use crate::support::fixtures::{
    Ready, active, draft, label, publish_now, ready, record_new, request, weight,
};
use chrono::{DateTime, Duration, TimeZone, Utc};
use diesel_async::AsyncPgConnection;
use model_experiments::recording::{NewRequest, Usage};
use model_experiments::reports::summary::{self, VersionSummary};
use model_experiments::reports::{feedback, overview};
use model_experiments::values::AllocationSubject::{self, Ip, User};
use model_experiments::values::{ExperimentId, InvalidValue, Timestamp, VersionId};
use model_experiments::{Error, experiments};
use serde_json::json;
use std::ops::Range;
use uuid::Uuid;

fn noon() -> Timestamp {
    Utc.with_ymd_and_hms(2026, 1, 2, 12, 0, 0).unwrap().try_into().unwrap()
}

fn after_noon(seconds: i64) -> Timestamp {
    noon() + Duration::seconds(seconds)
}

#[tokio::test]
async fn an_overview_is_an_experiment_as_a_whole() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let Ready { experiment, control, candidate, control_version, candidate_version } =
        ready(conn, "partner/foo").await;
    let bare =
        experiments::add_variant(conn, experiment.id, &label("bare"), weight(2)).await.unwrap();
    let swapped = publish_now(conn, candidate.id, "rc2").await;
    assert!(swapped.effective_at > candidate_version.effective_at);

    let overview = overview::of_experiment(conn, experiment.id).await.unwrap();
    assert_eq!(overview.experiment, experiment);
    let mut expected =
        vec![(control, Some(control_version)), (candidate, Some(swapped)), (bare, None)];
    expected.sort_by_key(|(variant, _)| variant.id);
    let variants = overview.variants.into_iter().map(|of| (of.variant, of.current));
    assert_eq!(variants.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn an_overview_of_a_bare_or_unknown_experiment() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let bare = draft(conn, "partner/foo").await;
    let overview = overview::of_experiment(conn, bare.id).await.unwrap();
    assert_eq!((overview.experiment, overview.variants), (bare, vec![]));
    let unknown = ExperimentId::from(Uuid::now_v7());
    let not_found = Err(Error::ExperimentNotFound(unknown));
    assert_eq!(overview::of_experiment(conn, unknown).await, not_found);
}

/// Records a request of `user`, `seconds` after noon.
async fn serve(
    conn: &mut AsyncPgConnection,
    version: VersionId,
    subject: AllocationSubject,
    user: &str,
    seconds: i64,
) -> Usage {
    let usage = Usage {
        cost: 1_000,
        input_tokens: 10,
        output_tokens: 20,
        cache_write_tokens: 30,
        cache_hit_tokens: 40,
        has_error: user == "unlucky",
        created_at: after_noon(seconds),
        ..Usage::new(user)
    };
    let request = NewRequest::new(version, subject);
    record_new(conn, &usage, &request).await;
    usage
}

/// What a summary says of a version, except for the sums, which follow from the requests.
#[derive(Debug, PartialEq)]
struct Served {
    version: VersionId,
    subject: Option<AllocationSubject>,
    users: i64,
    requests: i64,
    errors: i64,
}

/// Checks the sums of a summary, and returns the rest.
fn served(summary: &VersionSummary) -> Served {
    let totals = summary.totals;
    let requests = totals.requests;
    assert_eq!(totals.input_tokens, 10 * requests);
    assert_eq!(totals.output_tokens, 20 * requests);
    assert_eq!(totals.cache_write_tokens, 30 * requests);
    assert_eq!(totals.cache_hit_tokens, 40 * requests);
    assert_eq!(totals.cost, 1_000 * requests);
    Served {
        version: summary.version,
        subject: summary.subject,
        users: summary.distinct_users,
        requests,
        errors: totals.errors,
    }
}

#[tokio::test]
async fn a_summary_counts_what_each_version_served() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    let other = active(conn, "partner/other").await.control_version.id;
    let (control, candidate) = (foo.control_version.id, foo.candidate_version.id);
    for (version, subject, user, seconds) in [
        (control, User, "a", 0),
        (control, User, "a", 1),
        (control, Ip, "a", 2),
        (control, Ip, "unlucky", 3),
        (candidate, User, "b", 4),
        // Outside of the window, and of another experiment.
        (control, User, "c", -1),
        (candidate, User, "d", 60),
        (other, User, "e", 5),
    ] {
        serve(conn, version, subject, user, seconds).await;
    }
    let window = noon()..after_noon(60);
    let id = foo.experiment.id;
    let variant = |version| if version == control { &foo.control } else { &foo.candidate };
    let summaries = summary::by_version(conn, id, &window).await.unwrap();
    let mut expected = vec![
        Served { version: control, subject: None, users: 2, requests: 4, errors: 1 },
        Served { version: candidate, subject: None, users: 1, requests: 1, errors: 0 },
    ];
    expected.sort_by_key(|served| variant(served.version).id);
    assert_eq!(summaries.iter().map(served).collect::<Vec<_>>(), expected);
    for summary in summaries {
        let variant = variant(summary.version);
        assert_eq!((summary.variant, &summary.label), (variant.id, &variant.label));
    }

    let summaries = summary::by_version_and_subject(conn, id, &window).await.unwrap();
    let mut expected = vec![
        Served { version: control, subject: Some(Ip), users: 2, requests: 2, errors: 1 },
        Served { version: control, subject: Some(User), users: 1, requests: 2, errors: 0 },
        Served { version: candidate, subject: Some(User), users: 1, requests: 1, errors: 0 },
    ];
    expected.sort_by_key(|served| variant(served.version).id);
    assert_eq!(summaries.iter().map(served).collect::<Vec<_>>(), expected);

    // Half-open: a window's end is the next one's beginning.
    for (from, to, requests) in [(0, 1, 1), (1, 2, 1), (0, 0, 0), (2, 1, 0), (-1, 61, 7)] {
        let window = after_noon(from)..after_noon(to);
        let summaries = summary::by_version(conn, id, &window).await.unwrap();
        let counted: i64 = summaries.iter().map(|summary| summary.totals.requests).sum();
        assert_eq!(counted, requests, "{from}..{to}");
    }

    let unknown = ExperimentId::from(Uuid::now_v7());
    let not_found = Error::ExperimentNotFound(unknown);
    let summaries = summary::by_version(conn, unknown, &window).await;
    assert_eq!(summaries, Err(not_found.clone()));
    let summaries = summary::by_version_and_subject(conn, unknown, &window).await;
    assert_eq!(summaries, Err(not_found));
}

/// Every window and instant of a report is made of timestamps, and none can be made of such an
/// instant. A host may read windows from JSON.
#[test]
fn an_instant_beyond_the_year_9999_or_before_1_is_refused() {
    let never = DateTime::<Utc>::MIN_UTC;
    let expected = InvalidValue::new("timestamp", "must lie in the years 1 to 9999");
    assert_eq!(Timestamp::try_from(never), Err(expected.clone()));
    for window in [json!({"start": never, "end": noon()}), json!({"start": noon(), "end": never})] {
        let refused = serde_json::from_value::<Range<Timestamp>>(window).unwrap_err();
        assert_eq!(refused.to_string(), expected.to_string());
    }
}

#[tokio::test]
async fn a_sum_beyond_64_bits_is_an_error() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    for cost in [i64::MAX, 1] {
        let usage = Usage { cost, created_at: noon(), ..Usage::new("a") };
        record_new(conn, &usage, &request(foo.control_version.id)).await;
    }
    let window = noon()..after_noon(1);
    let outcome = summary::by_version(conn, foo.experiment.id, &window).await;
    assert!(
        matches!(&outcome, Err(error) if error.to_string().contains("bigint out of range")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn feedback_finds_what_served_each_request() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    let swapped = publish_now(conn, foo.candidate.id, "rc2").await;
    let [a, first_b, c, second_b, anonymous] = [(); 5].map(|()| Usage::new("user-1"));
    for (usage, client_request_id, version) in [
        (&a, "a", foo.control_version.id),
        (&first_b, "b", foo.candidate_version.id),
        (&c, "c", swapped.id),
        (&second_b, "b", swapped.id),
    ] {
        let request = request(version).client_request_id(client_request_id);
        record_new(conn, usage, &request).await;
    }
    record_new(conn, &anonymous, &request(swapped.id)).await;

    let served = feedback::served_by(conn, &["b", "unknown", "a"]).await.unwrap();
    let found: Vec<_> = served
        .iter()
        .map(|of| {
            (of.client_request_id.as_str(), of.usage_id, of.variant_version_id, of.variant_id)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("a", a.id, foo.control_version.id, foo.control.id),
            ("b", first_b.id, foo.candidate_version.id, foo.candidate.id),
            ("b", second_b.id, swapped.id, foo.candidate.id),
        ]
    );
    let first = served.first().unwrap();
    assert_eq!((&first.label, first.created_at), (&foo.control.label, a.created_at));
    assert!(served.iter().all(|of| of.experiment_id == foo.experiment.id));
    assert_eq!(feedback::served_by(conn, &[]).await.unwrap(), []);
    let refused = feedback::served_by(conn, &["a", "\0"]).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}
