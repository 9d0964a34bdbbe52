//! Timeouts hold where a pooler ignores the startup parameters.

use std::time::{Duration, Instant};

use crate::poolers::{WORKING, assert_refused, is_timeout, pool};
use crate::support::fixtures::{eventually, number, option, raw, setting, text};
use crate::support::{TestDatabase, options};

/// The longest statement.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How much later a statement ends that only the client can end.
const GRACE: Duration = Duration::from_secs(8);

const IGNORED: [&str; 1] = ["ignore_startup_parameters = extra_float_digits,options"];

#[tokio::test]
async fn a_statement_ends() {
    for mode in WORKING {
        let database = TestDatabase::new().await;
        let Some((_pooler, url)) = mode.start(&database, &IGNORED) else { return };
        let pool = pool(options(&url).statement_timeout(TIMEOUT), 1);
        let conn = &mut pool.get().await.unwrap();
        let start = Instant::now();
        let outcome =
            raw(conn, "SELECT pg_sleep(60)").await.map_err(model_experiments::Error::from);
        println!("ended after {:.1?}: {outcome:?}", start.elapsed());
        assert!(is_timeout(&outcome), "{outcome:?}");
        assert!(start.elapsed() < TIMEOUT + GRACE, "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_statement_whose_future_is_dropped_is_cancelled() {
    for mode in WORKING {
        let database = TestDatabase::new().await;
        let Some((_pooler, url)) = mode.start(&database, &[]) else { return };
        let pool = pool(options(&url), 1);
        let mut conn = pool.get().await.unwrap();
        let watcher = &mut database.connect().await;
        let running = "SELECT count(*) AS number FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event = 'PgSleep'";
        tokio::select! {
            outcome = raw(&mut conn, "SELECT pg_sleep(60)") => panic!("{outcome:?}"),
            () = eventually("it runs", async || number(watcher, running).await == 1) => {}
        }
        let start = Instant::now();
        drop(conn);
        eventually("it is cancelled", async || number(watcher, running).await == 0).await;
        println!("cancelled after {:.1?}", start.elapsed());
        assert!(start.elapsed() < GRACE);
        pool.health().await.unwrap();
    }
}

#[tokio::test]
async fn settings_of_the_database_hold_in_each_mode() {
    for mode in WORKING {
        let database = TestDatabase::new().await;
        let name = text(&mut database.connect().await, "SELECT current_database() AS text").await;
        for owner in [format!("DATABASE {name}"), format!("ROLE postgres IN DATABASE {name}")] {
            let set = format!("ALTER {owner} SET work_mem = '7MB'");
            raw(&mut database.connect().await, &set).await.unwrap();
            let Some((_pooler, url)) = mode.start(&database, &[]) else { return };
            let conn = &mut options(&url).connect().await.unwrap();
            assert_eq!(setting(conn, "work_mem").await, "7MB");
            let reset = format!("ALTER {owner} RESET work_mem");
            raw(&mut database.connect().await, &reset).await.unwrap();
        }
    }
}

#[tokio::test]
async fn settings_of_the_url_hold_in_session_mode_and_are_refused_else() {
    for mode in WORKING {
        let database = TestDatabase::new().await;
        let Some((_pooler, url)) = mode.start(&database, &IGNORED) else { return };
        let connected = options(&option(&url, "options=-c%20work_mem%3D7MB")).connect().await;
        if mode.is_session {
            assert_eq!(setting(&mut connected.unwrap(), "work_mem").await, "7MB");
        } else {
            assert_refused(connected.map(drop), &["ALTER ROLE"]);
        }
    }
}
