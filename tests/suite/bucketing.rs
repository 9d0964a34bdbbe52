//! Bucketing at large: users are shared as the weights say, of one experiment whatever another does with them, and
//! stay where they are whatever else changes.

use crate::support::TestDatabase;
use crate::support::fixtures::{active, draft, label, publish_now, ready, weight};
use diesel_async::AsyncPgConnection;
use model_experiments::experiments::{self, ExperimentChanges};
use model_experiments::routing::{self, Route, Subject};
use model_experiments::values::{AllocationSubject, PublicModelId, VariantId};
use statrs::distribution::{ChiSquared, ContinuousCDF};
use std::fmt::Write;

const ONE: &str = "0193b5c0-7e2a-7c31-9f4e-2b6a1d8c5e90";
const OTHER: &str = "0193b5c0-7e2a-7c31-9f4e-2b6a1d8c5e91";

/// Calls `with` for each of `users` users.
fn for_each_user(users: u32, mut with: impl FnMut(Subject<'_>)) {
    let mut name = String::new();
    for user in 0..users {
        name.clear();
        write!(name, "user-{user}").unwrap();
        with(Subject::new(AllocationSubject::User, &name).unwrap());
    }
}

/// Which of the variants of those weights a user is bucketed into.
fn variant(experiment: &str, weights: &[i32], subject: Subject<'_>) -> usize {
    let picked =
        bucketing::pick(experiment.parse().unwrap(), weights, |of| weight(*of), subject).unwrap();
    weights.iter().position(|of| std::ptr::eq(of, picked)).unwrap()
}

#[test]
fn a_million_users_are_shared_as_the_weights_say() {
    const USERS: u32 = 1_000_000;
    for weights in [&[1, 9][..], &[50, 30, 21], &[1, 2, 3, 5, 8, 13, 101]] {
        let mut counts = vec![0_u32; weights.len()];
        for_each_user(USERS, |subject| counts[variant(ONE, weights, subject)] += 1);
        assert_eq!(counts.iter().sum::<u32>(), USERS);
        let total: i32 = weights.iter().sum();
        for (weight, count) in weights.iter().zip(counts) {
            // Of a binomial distribution: the mean n p, and the deviation √(n p (1 − p)).
            let share = f64::from(*weight) / f64::from(total);
            let mean = f64::from(USERS) * share;
            let deviation = (mean * (1.0 - share)).sqrt();
            let away = (f64::from(count) - mean).abs() / deviation;
            assert!(away < 4.0, "{weight} of {weights:?}: {count}, {away:.1} deviations away");
        }
    }
}

/// How likely shares are at least as far from independent of each other as those of two experiments on the same users:
/// Pearson's χ² of the table of both.
fn independence(one: &str, other: &str) -> f64 {
    const USERS: u32 = 100_000;
    const WEIGHTS: [&[i32]; 2] = [&[1, 2, 3], &[2, 1, 4, 1]];
    let mut table = [[0_u32; 4]; 3];
    for_each_user(USERS, |subject| {
        table[variant(one, WEIGHTS[0], subject)][variant(other, WEIGHTS[1], subject)] += 1;
    });
    let rows = table.map(|row| f64::from(row.iter().sum::<u32>()));
    let columns = [0, 1, 2, 3].map(|at| f64::from(table.iter().map(|row| row[at]).sum::<u32>()));
    let mut distance = 0.0;
    for (row, of_row) in table.iter().zip(rows) {
        for (count, of_column) in row.iter().zip(columns) {
            let expected = of_row * of_column / f64::from(USERS);
            distance += (f64::from(*count) - expected).powi(2) / expected;
        }
    }
    ChiSquared::new((3.0 - 1.0) * (4.0 - 1.0)).unwrap().sf(distance)
}

#[test]
fn one_experiment_says_nothing_of_another_on_the_same_users() {
    let likely = independence(ONE, OTHER);
    assert!(likely > 0.001, "{likely}");
    // Were the experiment's id no part of what is hashed, all would depend on all.
    let likely = independence(ONE, ONE);
    assert!(likely < 1e-9, "{likely}");
}

/// The variants of the first 300 users.
async fn buckets(conn: &mut AsyncPgConnection, model: &PublicModelId) -> Vec<VariantId> {
    let routed = routing::load(conn, model).await.unwrap().unwrap();
    let mut variants = Vec::new();
    for_each_user(300, |subject| match routed.route(Some(subject)) {
        Route::Serve(served) => variants.push(served.variant),
        route => panic!("{route:?}"),
    });
    variants
}

#[tokio::test]
async fn nobody_is_moved_by_a_label_a_version_a_pause_or_another_experiment() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    let (id, model) = (foo.experiment.id, &foo.experiment.public_model_id);
    let before = buckets(conn, model).await;
    assert!(before.contains(&foo.control.id) && before.contains(&foo.candidate.id));

    experiments::set_label(conn, foo.control.id, &label("zulu")).await.unwrap();
    experiments::set_label(conn, foo.candidate.id, &label("alpha")).await.unwrap();
    assert_eq!(buckets(conn, model).await, before);

    active(conn, "partner/bar").await;
    ready(conn, model.as_str()).await;
    draft(conn, "partner/other").await;
    assert_eq!(buckets(conn, model).await, before);

    publish_now(conn, foo.control.id, "rc2").await;
    let changes = ExperimentChanges::new().name("Renamed");
    experiments::update(conn, id, &changes).await.unwrap();
    experiments::pause(conn, id).await.unwrap();
    experiments::activate(conn, id).await.unwrap();
    assert_eq!(buckets(conn, model).await, before);
}
