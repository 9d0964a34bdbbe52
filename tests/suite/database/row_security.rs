//! Row-level security: hidden rows never read as none.

use crate::support::fixtures::{Recorded, Role, active, eventually, raw, recorded, request};
use crate::support::{TestDatabase, options};
use diesel_async::AsyncPgConnection;
use model_experiments::recording::{Outcome, Record, Usage};
use model_experiments::routing::{Route, Subject, Unavailable};
use model_experiments::{
    ConnectOptions, Error, Recorder, RecorderOptions, RoutingCache, RoutingOptions,
};
use std::time::Duration;
use tokio::task::yield_now;

const ROUTING: [&str; 3] =
    ["model_experiment", "model_experiment_variant", "model_experiment_variant_version"];

const RECORDING: [&str; 2] = ["microdollar_usage", "model_experiment_request"];

/// A role that row-level security applies to, and how it connects.
async fn gateway(db: &TestDatabase, owner: &mut AsyncPgConnection) -> (Role, ConnectOptions) {
    let role = Role::new(owner, "GRANT ALL ON ALL TABLES IN SCHEMA public TO $role").await;
    let connect = options(&role.login(owner, &db.url()).await);
    (role, connect)
}

async fn start_cache(connect: &ConnectOptions) -> Result<RoutingCache, Error> {
    let poll = Duration::from_millis(20);
    let options = RoutingOptions::default().poll_interval(poll);
    RoutingCache::start(connect, options.max_staleness(Duration::from_secs(1))).await
}

fn pick(cache: &RoutingCache, model: &str) -> Route {
    cache.pick(model, Subject::user("user-1"))
}

#[tokio::test]
async fn a_cache_and_a_recorder_refuse_a_role_that_sees_no_row() {
    let db = TestDatabase::new().await;
    let owner = &mut db.connect().await;
    let served = active(owner, "partner/foo").await.control_version.id;
    let (role, connect) = gateway(&db, owner).await;
    let start_recorder = async || Recorder::start(&connect, RecorderOptions::default()).await;
    for table in ROUTING.into_iter().chain(RECORDING) {
        raw(owner, &format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")).await.unwrap();
        for policy in [
            "",
            "AS RESTRICTIVE FOR SELECT USING (true)",
            "FOR INSERT WITH CHECK (true)",
            "FOR SELECT TO postgres USING (true)",
        ] {
            if !policy.is_empty() {
                let create = format!("CREATE POLICY other ON {table} {policy}");
                raw(owner, &create).await.unwrap();
            }
            let refusal = if ROUTING.contains(&table) {
                start_cache(&connect).await.err()
            } else {
                start_recorder().await.err()
            };
            let hidden = Error::RowsHidden { table };
            assert_eq!(refusal, Some(hidden), "{policy}");
            let drop = format!("DROP POLICY IF EXISTS other ON {table}");
            raw(owner, &drop).await.unwrap();
        }
        let create = format!("CREATE POLICY gateway ON {table} TO $role USING (true)");
        role.sql(owner, &create).await;
    }
    let cache = start_cache(&connect).await.unwrap();
    assert!(matches!(pick(&cache, "partner/foo"), Route::Serve(_)));
    let recorder = start_recorder().await.unwrap();
    let record = Record::new(Usage::new("user-1"), request(served));
    assert_eq!(recorder.submit(record).await.unwrap().await, Ok(Outcome::Recorded));
    assert_eq!(recorded(owner).await, Recorded::both(1));
    recorder.shutdown(Duration::from_secs(5)).await;
    drop(cache);
    role.drop(owner).await;
}

#[tokio::test]
async fn a_policy_for_everybody_or_of_a_role_that_is_inherited_applies() {
    let db = TestDatabase::new().await;
    let owner = &mut db.connect().await;
    let (role, connect) = gateway(&db, owner).await;
    let group = Role::new(owner, "").await;
    group.sql(owner, "ALTER TABLE model_experiment ENABLE ROW LEVEL SECURITY").await;
    group.sql(owner, "CREATE POLICY of_group ON model_experiment TO $role USING (false)").await;
    assert!(matches!(start_cache(&connect).await, Err(Error::RowsHidden { .. })));
    let grant = format!("GRANT $role TO {}", role.name());
    group.sql(owner, &grant).await;
    // What it hides is the host's choice.
    assert!(start_cache(&connect).await.unwrap().is_empty());
    let public = "DROP POLICY of_group ON model_experiment;
        CREATE POLICY of_all ON model_experiment FOR SELECT USING (true)";
    raw(owner, public).await.unwrap();
    assert!(start_cache(&connect).await.is_ok());
    let bypass = "DROP POLICY of_all ON model_experiment; ALTER ROLE $role BYPASSRLS";
    role.sql(owner, bypass).await;
    assert!(start_cache(&connect).await.is_ok());
    group.drop(owner).await;
    role.drop(owner).await;
}

#[tokio::test]
async fn rows_that_are_hidden_later_make_a_cache_stale_and_not_empty() {
    const STALE: Route = Route::Unavailable(Unavailable::Stale);
    let db = TestDatabase::new().await;
    let owner = &mut db.connect().await;
    let (role, connect) = gateway(&db, owner).await;
    // It holds nothing when the rows are hidden, and something the second time.
    let cache = start_cache(&connect).await.unwrap();
    assert_eq!(pick(&cache, "partner/foo"), Route::NotExperimented);
    raw(owner, "ALTER TABLE model_experiment ENABLE ROW LEVEL SECURITY").await.unwrap();
    active(owner, "partner/foo").await;
    eventually("the empty cache is stale", async || {
        yield_now().await;
        pick(&cache, "partner/foo") == STALE
    })
    .await;

    raw(owner, "ALTER TABLE model_experiment DISABLE ROW LEVEL SECURITY").await.unwrap();
    eventually("the cache sees the experiment", async || {
        yield_now().await;
        matches!(pick(&cache, "partner/foo"), Route::Serve(_))
    })
    .await;
    raw(owner, "ALTER TABLE model_experiment ENABLE ROW LEVEL SECURITY").await.unwrap();
    eventually("the cache is stale", async || {
        yield_now().await;
        let route = pick(&cache, "partner/foo");
        assert_ne!(route, Route::NotExperimented);
        route == STALE
    })
    .await;
    drop(cache);
    role.drop(owner).await;
}
