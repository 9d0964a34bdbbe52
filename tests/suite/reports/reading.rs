//! Reading what was recorded: overviews, summaries and the feedback join.

use crate::support::TestDatabase;
use crate::support::fixtures::{Ready, active, draft, label, publish_now, ready, record_one, request, weight};
use chrono::{DateTime, Duration, TimeZone, Utc};
use diesel_async::AsyncPgConnection;
use model_experiments::recording::{NewRequest, Usage, record};
use model_experiments::reports::summary::{self, Totals, VersionSummary};
use model_experiments::reports::{feedback, overview};
use model_experiments::values::AllocationSubject::{self, Ip, User};
use model_experiments::values::{ExperimentId, VersionId};
use model_experiments::{Error, experiments};
use uuid::Uuid;

fn noon() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, 2, 12, 0, 0).unwrap()
}

#[tokio::test]
async fn an_overview_is_an_experiment_as_a_whole() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let Ready { experiment, control, candidate, control_version, candidate_version } =
        ready(conn, "partner/foo").await;
    let bare =
        experiments::add_variant(conn, experiment.id, &label("bare"), weight(2)).await.unwrap();
    let before = candidate_version.effective_at;
    let swapped = publish_now(conn, candidate.id, "rc2").await;

    for (at, current) in [(before, candidate_version), (swapped.effective_at, swapped)] {
        let overview = overview::of_experiment(conn, experiment.id, at).await.unwrap().unwrap();
        assert_eq!(overview.experiment, experiment);
        let mut expected = vec![
            (control.clone(), Some(control_version.clone())),
            (candidate.clone(), Some(current)),
            (bare.clone(), None),
        ];
        expected.sort_by_key(|(variant, _)| variant.id);
        let variants = overview.variants.into_iter().map(|of| (of.variant, of.current));
        assert_eq!(variants.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn an_overview_of_a_bare_or_unknown_experiment() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let bare = draft(conn, "partner/foo").await;
    let overview = overview::of_experiment(conn, bare.id, noon()).await.unwrap().unwrap();
    assert_eq!((overview.experiment, overview.variants), (bare, vec![]));
    let unknown = ExperimentId::from(Uuid::now_v7());
    assert_eq!(overview::of_experiment(conn, unknown, noon()).await.unwrap(), None);
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
        created_at: (noon() + Duration::seconds(seconds)).try_into().unwrap(),
        ..Usage::new(user)
    };
    let request = NewRequest::new(version, subject);
    assert!(record_one(conn, &usage, &request).await.is_ok());
    usage
}

/// What a summary should say: version, subject, users, requests and errors. The sums follow from these.
type Served = (VersionId, Option<AllocationSubject>, i64, i64, i64);

fn served(summary: &VersionSummary) -> Served {
    let Totals { requests, errors, cost, .. } = summary.totals;
    let Totals { input_tokens, output_tokens, cache_write_tokens, cache_hit_tokens, .. } =
        summary.totals;
    let sums = [input_tokens, output_tokens, cache_write_tokens, cache_hit_tokens, cost];
    assert_eq!(sums, [10, 20, 30, 40, 1_000].map(|each| each * requests));
    (summary.version, summary.subject, summary.distinct_users, requests, errors)
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
    let window = noon()..noon() + Duration::seconds(60);
    let id = foo.experiment.id;
    let summaries = summary::by_version(conn, id, &window).await.unwrap();
    let mut expected = vec![(control, None, 2, 4, 1), (candidate, None, 1, 1, 0)];
    expected.sort_by_key(
        |(version, ..)| if *version == control { foo.control.id } else { foo.candidate.id },
    );
    assert_eq!(summaries.iter().map(served).collect::<Vec<_>>(), expected);
    for summary in summaries {
        let variant = if summary.version == control { &foo.control } else { &foo.candidate };
        assert_eq!((summary.variant, &summary.label), (variant.id, &variant.label));
    }

    let summaries = summary::by_version_and_subject(conn, id, window).await.unwrap();
    let mut expected = vec![
        (control, Some(Ip), 2, 2, 1),
        (control, Some(User), 1, 2, 0),
        (candidate, Some(User), 1, 1, 0),
    ];
    expected.sort_by_key(
        |(version, ..)| if *version == control { foo.control.id } else { foo.candidate.id },
    );
    assert_eq!(summaries.iter().map(served).collect::<Vec<_>>(), expected);

    // Half-open: a window's end is the next one's beginning.
    for (from, to, requests) in [(0, 1, 1), (1, 2, 1), (0, 0, 0), (2, 1, 0), (-1, 61, 7)] {
        let window = noon() + Duration::seconds(from)..noon() + Duration::seconds(to);
        let summaries = summary::by_version(conn, id, window).await.unwrap();
        let counted: i64 = summaries.iter().map(|summary| summary.totals.requests).sum();
        assert_eq!(counted, requests, "{from}..{to}");
    }
}

#[tokio::test]
async fn an_instant_that_postgresql_does_not_know_is_refused() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let ready = ready(conn, "partner/foo").await;
    let (id, never) = (ready.experiment.id, DateTime::<Utc>::MIN_UTC);
    for refused in [
        overview::of_experiment(conn, id, never).await.err(),
        experiments::find_current_version(conn, ready.control.id, never).await.err(),
        experiments::list_current_versions(conn, id, never).await.err(),
        summary::by_version(conn, id, never..noon()).await.err(),
        summary::by_version_and_subject(conn, id, noon()..never).await.err(),
    ] {
        assert!(matches!(refused, Some(Error::Invalid(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_sum_beyond_64_bits_is_an_error() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    for cost in [i64::MAX, 1] {
        let created_at = noon().try_into().unwrap();
        let usage = Usage { cost, created_at, ..Usage::new("a") };
        let request = request(foo.control_version.id);
        assert!(record_one(conn, &usage, &request).await.is_ok());
    }
    let window = noon()..noon() + Duration::seconds(1);
    let outcome = summary::by_version(conn, foo.experiment.id, window).await;
    assert!(matches!(&outcome, Err(error) if error.to_string().contains("64 bits")), "{outcome:?}");
}

#[tokio::test]
async fn feedback_finds_what_served_each_request() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    let swapped = publish_now(conn, foo.candidate.id, "rc2").await;
    let mut usages = Vec::new();
    for (client_request_id, version) in [
        ("a", foo.control_version.id),
        ("b", foo.candidate_version.id),
        ("c", swapped.id),
        ("b", swapped.id),
    ] {
        let usage = Usage::new("user-1");
        let request = request(version).client_request_id(client_request_id);
        assert!(record_one(conn, &usage, &request).await.is_ok());
        usages.push(usage);
    }
    let anonymous = Usage::new("user-1");
    let request = request(swapped.id);
    assert!(record_one(conn, &anonymous, &request).await.is_ok());

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
            ("a", usages[0].id, foo.control_version.id, foo.control.id),
            ("b", usages[1].id, foo.candidate_version.id, foo.candidate.id),
            ("b", usages[3].id, swapped.id, foo.candidate.id),
        ]
    );
    assert_eq!(served[0].label, foo.control.label);
    assert_eq!(served[0].created_at, usages[0].created_at);
    assert!(served.iter().all(|of| of.experiment_id == foo.experiment.id));
    assert_eq!(feedback::served_by(conn, &[]).await.unwrap(), []);
    let refused = feedback::served_by(conn, &["a", "\0"]).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}
