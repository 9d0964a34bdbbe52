//! Cost of routing, each part compared with a baseline.
//!
//! ```text
//! cargo bench --bench routing
//! ```
//!
//! Conditions and results: `docs/benchmarks.md`.

mod baseline;
#[path = "../comparison/mod.rs"]
mod comparison;
mod raw;
#[path = "../seed/mod.rs"]
mod seed;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/support/mod.rs"]
mod support;

use model_experiments::routing::{self, Route, Subject};
use model_experiments::values::EncryptedApiKey;
use model_experiments::{AsyncPgConnection, RoutingCache, RoutingOptions};
use std::hint::black_box;
use tokio::runtime::{Builder, Runtime};

use baseline::{Decryption, Lookup, Request};
use comparison::Comparison;
use seed::Family;
use support::TestDatabase;
use support::fixtures::{API_KEY, cipher, key, public_model_id};

/// Number of active experiments.
const EXPERIMENTS: usize = 1_000;

const ACTIVE: Family =
    Family { name: "active", status: "active", experiments: EXPERIMENTS, versions: 1 };

fn main() {
    let mut comparison = Comparison::new();
    pick(&mut comparison);
    load_one(&mut comparison);
    load_all(&mut comparison);
    decrypt(&mut comparison);
    extra_body(&mut comparison);
    comparison.print();
}

fn pick(comparison: &mut Comparison) {
    let paused = Family { name: "paused", status: "paused", experiments: 100, versions: 1 };
    // A runtime of several threads, on which the cache follows the database during the picks.
    let runtime = Runtime::new().unwrap();
    let (db, cache, experiments) = runtime.block_on(async {
        let db = seed::database(&[ACTIVE, paused]).await;
        let cache = RoutingCache::start(&db.options(), RoutingOptions::default()).await.unwrap();
        let experiments = routing::load_all(&mut db.connect().await).await.unwrap();
        (db, cache, experiments)
    });
    let lookup = Lookup::new(&experiments);
    let expect = |requests: &[Request], expected: fn(&Route) -> bool| {
        for Request { model, user, .. } in requests {
            let route = cache.pick(model, Subject::user(user.as_str()));
            assert!(expected(&route), "{model}: {route:?}");
        }
    };

    let hits = Request::many("active", EXPERIMENTS, &experiments);
    expect(&hits, |route| matches!(route, Route::Serve(_)));
    let pick = |request: &Request| {
        let user = black_box(request.user.as_str());
        cache.pick(black_box(&request.model), Subject::user(user))
    };
    let (mut ours, mut raw, mut hash) =
        (hits.iter().cycle(), hits.iter().cycle(), hits.iter().cycle());
    comparison.add(
        "pick_hit",
        || ours.next().map(pick),
        || {
            let request = raw.next()?;
            Some((request.sha256(), lookup.find(black_box(&request.model))))
        },
    );
    comparison.add_raw("sha256_of_seed", || hash.next().map(Request::sha256));

    for (name, family, expected) in [
        ("pick_miss", "unknown", (|route| *route == Route::NotExperimented) as fn(&Route) -> bool),
        ("pick_paused", "paused", |route| *route == Route::Paused),
    ] {
        let requests = Request::many(family, 100, &experiments);
        expect(&requests, expected);
        let (mut ours, mut raw) = (requests.iter().cycle(), requests.iter().cycle());
        comparison.add(
            name,
            || ours.next().map(pick),
            || raw.next().map(|request| lookup.find(black_box(&request.model))),
        );
    }
    runtime.block_on(cache.shutdown());
    drop(db);
}

/// A database, and connections to it on a runtime of one thread.
struct Connections {
    runtime: Runtime,
    ours: AsyncPgConnection,
    raw: raw::Client,
    _database: TestDatabase,
}

impl Connections {
    fn to(families: &[Family]) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (database, ours, raw) = runtime.block_on(async {
            let database = seed::database(families).await;
            let ours = database.connect().await;
            let raw = raw::Client::connect(&database.url()).await;
            (database, ours, raw)
        });
        Self { runtime, ours, raw, _database: database }
    }
}

fn load_one(comparison: &mut Comparison) {
    let recent = Family { name: "recent", status: "active", experiments: 1, versions: 50 };
    let long = Family { name: "long", status: "active", experiments: 1, versions: 5_000 };
    let Connections { runtime, mut ours, raw, _database } =
        Connections::to(&[ACTIVE, recent, long]);
    for (name, model) in
        [("load_one_50_versions", "recent/1"), ("load_one_5000_versions", "long/1")]
    {
        let model = public_model_id(model);
        assert_eq!(runtime.block_on(raw.load_one(model.as_str())).len(), seed::VARIANTS);
        comparison.add(
            name,
            || runtime.block_on(routing::load(&mut ours, &model)).unwrap().unwrap(),
            || runtime.block_on(raw.load_one(model.as_str())),
        );
    }
}

fn load_all(comparison: &mut Comparison) {
    let Connections { runtime, mut ours, raw, _database } = Connections::to(&[ACTIVE]);
    assert_eq!(runtime.block_on(raw.load_all()).len(), EXPERIMENTS * seed::VARIANTS);
    assert_eq!(runtime.block_on(routing::load_all(&mut ours)).unwrap().len(), EXPERIMENTS);
    comparison.add(
        "load_all",
        || runtime.block_on(routing::load_all(&mut ours)).unwrap(),
        || runtime.block_on(raw.load_all()),
    );
}

fn decrypt(comparison: &mut Comparison) {
    let (cipher, key): (_, EncryptedApiKey) = (cipher(), key(API_KEY));
    let raw = Decryption::new(&key);
    assert_eq!(raw.decrypt(), API_KEY.as_bytes());
    comparison.add("decrypt", || cipher.decrypt(black_box(&key)).unwrap(), || raw.decrypt());
}

fn extra_body(comparison: &mut Comparison) {
    let upstream = seed::upstream();
    let text = serde_json::to_string(&upstream.extra_body().unwrap()).unwrap();
    comparison.add(
        "extra_body",
        || black_box(&upstream).extra_body().unwrap(),
        || raw::parse(black_box(&text)),
    );
}
