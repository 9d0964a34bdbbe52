//! A server whose messages aren't English: nothing is lost, and nothing is given up early.

use crate::recording::recorder::blocked::delays_records_of_a_locked_version_alone;
use crate::recording::recorder::doubt::refuse;
use crate::recording::recorder::faults::{
    delays_a_slow_record_alone, repeats_a_statement_of_a_deadlock,
    repeats_a_statement_whose_process_is_ended,
};
use crate::recording::recorder::{
    Database, all_recorded, answer, both_modes, burst, costing, limit_costs, record, start,
    until_retried_often, with_experiment,
};
use crate::support::TestDatabase;
use crate::support::fixtures::{Recorded, assert_database_error, raw, recorded};
use crate::support::log::Log;
use futures_util::FutureExt;
use model_experiments::{Error, RecorderOptions};
use std::time::Duration;

async fn german_database() -> Option<Database> {
    Some(with_experiment(TestDatabase::german().await?).await)
}

#[tokio::test]
async fn a_deadlock_is_retried() {
    let Some(database) = german_database().await else { return };
    repeats_a_statement_of_a_deadlock(database).await;
}

#[tokio::test]
async fn a_locked_version_delays_its_own_records_alone() {
    let (log, _guard) = Log::of_thread();
    for options in both_modes() {
        let Some(database) = german_database().await else { return };
        delays_records_of_a_locked_version_alone(database, options).await;
    }
    let lines = log.lines();
    let german = "Zeitüberschreitung einer Sperre";
    assert!(lines.iter().any(|line| line.contains(german)), "{lines:#?}");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_delays_its_own_record_alone() {
    let (log, _guard) = Log::of_thread();
    for options in both_modes() {
        let Some(database) = german_database().await else { return };
        delays_a_slow_record_alone(database, options).await;
    }
    let lines = log.lines();
    let german = "Zeitüberschreitung der Anfrage";
    assert!(lines.iter().any(|line| line.contains(german)), "{lines:#?}");
}

#[tokio::test]
async fn a_statement_whose_process_is_ended_is_repeated() {
    let (log, _guard) = Log::of_thread();
    for options in both_modes() {
        let Some(database) = german_database().await else { return };
        repeats_a_statement_whose_process_is_ended(database, options).await;
    }
    let lines = log.lines();
    let german = "Anweisung des Administrators";
    assert!(lines.iter().any(|line| line.contains(german)), "{lines:#?}");
}

/// On an English server, such a record comes back at once.
#[tokio::test]
async fn what_may_be_trouble_of_the_server_is_retried_though_others_are_recorded() {
    for options in both_modes() {
        let (log, _guard) = Log::of_thread();
        let Some((db, mut conn, version)) = german_database().await else { return };
        refuse(&mut conn, "ROW", "NEW.cost = 7", "Verklemmung (Deadlock) entdeckt").await;
        let recorder = start(&db.options(), options).await;
        let mut refused = burst(&recorder, [costing(7, version)]);
        for _ in 0..3 {
            all_recorded(burst(&recorder, (0..10).map(|_| record(version)))).await;
        }
        until_retried_often(&log, 6).await;
        all_recorded(burst(&recorder, (0..10).map(|_| record(version)))).await;
        assert!(refused.iter_mut().all(|receipt| receipt.now_or_never().is_none()));
        raw(&mut conn, "DROP FUNCTION refuse CASCADE").await.unwrap();
        all_recorded(refused).await;
        assert_eq!(recorded(&mut conn).await, Recorded::both(41));
    }
}

#[tokio::test]
async fn what_may_be_trouble_of_the_server_comes_back_at_its_deadline() {
    let Some((db, mut conn, version)) = german_database().await else { return };
    refuse(&mut conn, "ROW", "NEW.cost = 7", "Verklemmung (Deadlock) entdeckt").await;
    let options = RecorderOptions::default().retry_for(Duration::from_secs(2));
    let recorder = start(&db.options(), options).await;
    let [refused, taken] = [7, 0].map(|cost| recorder.try_submit(costing(cost, version)).unwrap());
    all_recorded([taken]).await;
    let end = answer(refused).await.map_err(Error::from);
    assert_database_error(end, "Verklemmung (Deadlock) entdeckt");
}

#[tokio::test]
async fn what_names_its_column_or_constraint_comes_back_at_once() {
    for options in both_modes() {
        let Some((db, mut conn, version)) = german_database().await else { return };
        limit_costs(&mut conn).await;
        let column = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'keine Sieben' USING COLUMN = 'cost'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON microdollar_usage
                FOR EACH ROW WHEN (NEW.cost = 7) EXECUTE FUNCTION refuse()";
        raw(&mut conn, column).await.unwrap();
        // Deadlines are ten minutes away.
        let recorder = start(&db.options(), options).await;
        let given = [0, 7, 0, 1_000, 0].map(|cost| costing(cost, version));
        let mut ends = Vec::new();
        for receipt in burst(&recorder, given) {
            ends.push(answer(receipt).await.map_err(Error::from));
        }
        assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 3);
        assert!(matches!(ends[3], Err(Error::UnknownConstraint { .. })), "{:?}", ends[3]);
        assert_database_error(ends.swap_remove(1), "keine Sieben");
    }
}
