//! Experiments that the database has lost.

use crate::routing::cache::{cache, is_served, notified, notify, pick, polled, until};
use crate::support::TestDatabase;
use crate::support::fixtures::{Ready, active, raw, unguard};
use crate::support::log::Log;
use diesel_async::AsyncPgConnection;
use model_experiments::routing::{Route, Unavailable};
use model_experiments::{RoutingCache, RoutingOptions, experiments};

const TABLES: [&str; 3] =
    ["model_experiment", "model_experiment_variant", "model_experiment_variant_version"];

/// Keeps what the tables hold.
async fn save(conn: &mut AsyncPgConnection) {
    for table in TABLES {
        raw(conn, &format!("CREATE TABLE saved_{table} AS TABLE {table}")).await.unwrap();
    }
}

/// Brings back what was saved.
async fn restore(conn: &mut AsyncPgConnection) {
    let insert = TABLES.map(|table| format!("INSERT INTO {table} TABLE saved_{table}; "));
    raw(conn, &insert.concat()).await.unwrap();
}

fn vanished(of: &Ready) -> Route {
    Route::Unavailable(Unavailable::Vanished(of.experiment.id))
}

async fn until_vanished(cache: &RoutingCache, of: &Ready) {
    let model = of.experiment.public_model_id.as_str();
    until(cache, model, |route| *route == vanished(of)).await;
}

#[tokio::test]
async fn emptied_tables_make_what_was_routed_unavailable_until_it_is_there_again() {
    let (log, _guard) = Log::of_thread();
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    let paused = active(conn, "partner/paused").await;
    experiments::pause(conn, paused.experiment.id).await.unwrap();
    let cache = cache(&db, polled()).await;
    unguard(conn).await;
    save(conn).await;
    assert_eq!(log.errors().len(), 0);

    for _ in 0..2 {
        raw(conn, "TRUNCATE model_experiment CASCADE").await.unwrap();
        until_vanished(&cache, &foo).await;
        until_vanished(&cache, &paused).await;
        assert_eq!(pick(&cache, "partner/none"), Route::NotExperimented);
        restore(conn).await;
        until(&cache, "partner/foo", is_served).await;
        until(&cache, "partner/paused", |route| *route == Route::Paused).await;
    }
    let errors = log.errors();
    assert_eq!(errors.len(), 4, "{errors:#?}");
    for of in [&foo, &paused] {
        let id = of.experiment.id.to_string();
        let lines = errors.iter().filter(|line| line.contains(&id) && line.contains("vanished"));
        assert_eq!(lines.count(), 2, "{errors:#?}");
    }
}

#[tokio::test]
async fn an_experiment_that_is_gone_or_a_draft_again_is_unavailable_and_a_completed_one_is_not() {
    for options in [notified(), polled()] {
        gone_draft_or_completed(options).await;
    }
}

async fn gone_draft_or_completed(options: RoutingOptions) {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let gone = active(conn, "partner/gone").await;
    let draft = active(conn, "partner/draft").await;
    let completed = active(conn, "partner/completed").await;
    let (id, model) = (completed.experiment.id, "partner/completed");
    let cache = cache(&db, options).await;
    unguard(conn).await;
    save(conn).await;

    let set = |set: &str, of: &Ready| {
        format!("UPDATE model_experiment SET {set} WHERE id = '{}'", of.experiment.id)
    };
    let delete = format!("DELETE FROM model_experiment WHERE id = '{}'", gone.experiment.id);
    raw(conn, &delete).await.unwrap();
    raw(conn, &set("status = 'draft', started_at = NULL", &draft)).await.unwrap();
    for of in [&gone, &draft] {
        notify(conn, of.experiment.public_model_id.as_str()).await;
        until_vanished(&cache, of).await;
    }

    experiments::complete(conn, id).await.unwrap();
    until(&cache, model, |route| *route == Route::NotExperimented).await;

    // The row is there again.
    raw(conn, &set("status = 'active', started_at = now()", &draft)).await.unwrap();
    notify(conn, "partner/draft").await;
    until(&cache, "partner/draft", is_served).await;
    assert_eq!(pick(&cache, "partner/gone"), vanished(&gone));
    // It is there again, and completed.
    raw(
        conn,
        "INSERT INTO model_experiment
         SELECT (jsonb_populate_record(saved, '{\"status\": \"completed\", \"ended_at\": \"2030-01-01Z\"}')).*
         FROM saved_model_experiment saved WHERE public_model_id = 'partner/gone'",
    )
    .await
    .unwrap();
    notify(conn, "partner/gone").await;
    until(&cache, "partner/gone", |route| *route == Route::NotExperimented).await;
}
