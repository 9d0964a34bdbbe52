//! Bucketing of many users: the weights share them, independently of other experiments, and no
//! change moves them.

use crate::support::TestDatabase;
use crate::support::fixtures::{active, draft, label, publish_now, ready, weight};
use diesel_async::AsyncPgConnection;
use model_experiments::experiments::{self, ExperimentChanges};
use model_experiments::routing::{self, CumulativeWeights, Route, Subject};
use model_experiments::values::{PublicModelId, VariantId};
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
        with(Subject::user(name.as_str()));
    }
}

fn cumulative(weights: &[i32]) -> CumulativeWeights {
    CumulativeWeights::new(weights.iter().map(|share| weight(*share)))
}

#[test]
fn a_million_users_are_shared_by_the_weights() {
    const USERS: u32 = 1_000_000;
    for weights in [&[1, 9][..], &[50, 30, 21], &[1, 2, 3, 5, 8, 13, 101]] {
        let mut counts = vec![0_u32; weights.len()];
        let (experiment, sums) = (ONE.parse().unwrap(), cumulative(weights));
        for_each_user(USERS, |subject| counts[sums.pick(experiment, subject).unwrap()] += 1);
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

/// The p-value of Pearson's χ² test for independence: how likely the variants of two independent
/// experiments depend on each other at least as much as those of `one` and `other`.
fn independence(one: &str, other: &str) -> f64 {
    const USERS: u32 = 100_000;
    let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
    let (of_one, of_other) = (cumulative(&[1, 2, 3]), cumulative(&[2, 1, 4, 1]));
    // Users by the variant of one experiment, and by that of the other.
    let mut table = [[0_u32; 4]; 3];
    for_each_user(USERS, |subject| {
        let row = of_one.pick(one, subject).unwrap();
        let column = of_other.pick(other, subject).unwrap();
        table[row][column] += 1;
    });
    let row_sums = table.map(|row| f64::from(row.iter().sum::<u32>()));
    let mut column_sums = [0.0; 4];
    for row in table {
        for (sum, count) in column_sums.iter_mut().zip(row) {
            *sum += f64::from(count);
        }
    }
    let mut distance = 0.0;
    for (row, row_sum) in table.iter().zip(row_sums) {
        for (count, column_sum) in row.iter().zip(column_sums) {
            let expected = row_sum * column_sum / f64::from(USERS);
            distance += (f64::from(*count) - expected).powi(2) / expected;
        }
    }
    ChiSquared::new((3.0 - 1.0) * (4.0 - 1.0)).unwrap().sf(distance)
}

#[test]
fn the_variants_of_two_experiments_are_independent() {
    let likely = independence(ONE, OTHER);
    assert!(likely > 0.001, "{likely}");
    // If the experiment's id weren't hashed, every experiment would depend on every other.
    let likely = independence(ONE, ONE);
    assert!(likely < 1e-9, "{likely}");
}

/// The variants of the first 300 users.
async fn buckets(conn: &mut AsyncPgConnection, model: &PublicModelId) -> Vec<VariantId> {
    let routed = routing::load(conn, model).await.unwrap().unwrap();
    let mut variants = Vec::new();
    for_each_user(300, |subject| match routed.route(subject) {
        Route::Serve(served) => variants.push(served.variant),
        route => panic!("{route:?}"),
    });
    variants
}

#[tokio::test]
async fn no_label_version_pause_or_other_experiment_moves_a_user() {
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
    let changes = ExperimentChanges::default().name("Renamed");
    experiments::update(conn, id, &changes).await.unwrap();
    experiments::pause(conn, id).await.unwrap();
    experiments::activate(conn, id).await.unwrap();
    assert_eq!(buckets(conn, model).await, before);
}
