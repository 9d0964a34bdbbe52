//! Publishing versions: now, scheduled, with a key or without, and rotating keys.

use crate::support::TestDatabase;
use crate::support::fixtures::{
    API_KEY, Counts, active, api_key, counts, draft, key, label, number, publish_now, raw, ready,
    unguard, until_blocked, upstream, weight,
};
use chrono::Duration;
use diesel_async::AsyncPgConnection;
use model_experiments::experiments::{self, NewVersion, Version};
use model_experiments::routing::{self, Route, Subject};
use model_experiments::values::{
    ExperimentId, PublicModelId, Status, Timestamp, VariantId, VersionId,
};
use model_experiments::{Error, Page, Pool};
use uuid::Uuid;

/// The shortest time between two instants.
const TICK: Duration = Duration::microseconds(1);

fn tomorrow() -> Timestamp {
    Timestamp::now() + Duration::days(1)
}

async fn history(conn: &mut AsyncPgConnection, variant: VariantId) -> Vec<Version> {
    experiments::list_versions(conn, variant, Page::first(100)).await.unwrap()
}

async fn current(conn: &mut AsyncPgConnection, variant: VariantId, at: Timestamp) -> VersionId {
    experiments::find_version_at(conn, variant, at).await.unwrap().unwrap().id
}

/// The key that the only variant of an active experiment is called with.
async fn routed_key(conn: &mut AsyncPgConnection, model: &str) -> String {
    let model = PublicModelId::new(model).unwrap();
    let routed = routing::load(conn, &model).await.unwrap().unwrap();
    let Route::Serve(served) = routed.route(Subject::user("user-1")) else { panic!("{routed:?}") };
    api_key(&served)
}

/// An active experiment with one variant.
async fn single(conn: &mut AsyncPgConnection, model: &str) -> VariantId {
    let id = draft(conn, model).await.id;
    let variant = experiments::add_variant(conn, id, &label("only"), weight(1)).await.unwrap().id;
    publish_now(conn, variant, "first").await;
    experiments::activate(conn, id).await.unwrap();
    variant
}

#[tokio::test]
async fn a_version_is_published_as_it_was_given() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let variant = ready(conn, "partner/foo").await.control.id;
    let (upstream, key) = (upstream("rc2"), key("sk-2"));
    let new = NewVersion::with_key(&upstream, &key).created_by("alice");
    let version = experiments::publish(conn, variant, new).await.unwrap();
    assert_eq!((version.variant_id, version.upstream()), (variant, Ok(&upstream)));
    assert_eq!(version.created_by.as_deref(), Some("alice"));
    assert_eq!(history(conn, variant).await.first(), Some(&version));
    assert_eq!(experiments::find_version(conn, version.id).await.unwrap(), Some(version));
    let unknown = VersionId::from(Uuid::now_v7());
    assert_eq!(experiments::find_version(conn, unknown).await.unwrap(), None);
}

#[tokio::test]
async fn a_hot_swap_takes_over_at_once_and_leaves_the_variant_as_it_was() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let active = active(conn, "partner/foo").await;
    let before = experiments::list_variants(conn, active.experiment.id).await.unwrap();
    let old = active.candidate_version;

    let upstream = upstream("rc2");
    let new = experiments::publish(conn, active.candidate.id, NewVersion::keeping_key(&upstream))
        .await
        .unwrap();
    assert!(new.effective_at > old.effective_at);
    assert_eq!(current(conn, active.candidate.id, new.effective_at).await, new.id);
    assert_eq!(current(conn, active.candidate.id, new.effective_at - TICK).await, old.id);
    assert_eq!(experiments::list_variants(conn, active.experiment.id).await.unwrap(), before);
}

#[tokio::test]
async fn a_version_without_a_key_keeps_the_key_of_the_one_before() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let variant = single(conn, "partner/foo").await;
    assert_eq!(routed_key(conn, "partner/foo").await, API_KEY);

    let second = upstream("second");
    experiments::publish(conn, variant, NewVersion::keeping_key(&second)).await.unwrap();
    assert_eq!(routed_key(conn, "partner/foo").await, API_KEY);

    let rotated = experiments::rotate_key(conn, variant, &key("sk-2")).await.unwrap();
    assert_eq!((rotated.upstream(), rotated.created_by.as_deref()), (Ok(&second), None));
    assert_eq!(routed_key(conn, "partner/foo").await, "sk-2");

    let key = key("sk-3");
    let by_bob = NewVersion::keeping_upstream(&key).created_by("bob");
    let rotated = experiments::publish(conn, variant, by_bob).await.unwrap();
    assert_eq!((rotated.upstream(), rotated.created_by.as_deref()), (Ok(&second), Some("bob")));
    assert_eq!(routed_key(conn, "partner/foo").await, "sk-3");

    experiments::publish(conn, variant, NewVersion::keeping_key(&upstream("third"))).await.unwrap();
    assert_eq!(routed_key(conn, "partner/foo").await, "sk-3");
    assert_eq!(history(conn, variant).await.len(), 5);
}

#[tokio::test]
async fn a_first_version_must_bring_a_key() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = draft(conn, "partner/foo").await.id;
    let variant = experiments::add_variant(conn, id, &label("a"), weight(1)).await.unwrap().id;
    let upstream = upstream("rc1");
    let missing = Err(Error::KeyMissing(variant));
    assert_eq!(
        experiments::publish(conn, variant, NewVersion::keeping_key(&upstream)).await,
        missing
    );
    let scheduled = NewVersion::keeping_key(&upstream).effective_at(tomorrow());
    assert_eq!(experiments::publish(conn, variant, scheduled).await, missing);
    assert_eq!(
        experiments::rotate_key(conn, variant, &key("sk")).await,
        Err(Error::NothingToRotate(variant))
    );

    // A scheduled version has no key for one that is effective before it.
    let key = key("sk");
    let scheduled = NewVersion::with_key(&upstream, &key).effective_at(tomorrow());
    experiments::publish(conn, variant, scheduled).await.unwrap();
    assert_eq!(
        experiments::publish(conn, variant, NewVersion::keeping_key(&upstream)).await,
        missing
    );
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 1, versions: 1, ..Counts::default() }
    );
}

#[tokio::test]
async fn a_scheduled_version_is_current_from_its_instant_on() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let ready = ready(conn, "partner/foo").await;
    let (variant, now) = (ready.control.id, ready.control_version.id);
    let at = ready.control_version.effective_at + Duration::hours(1);
    let next = upstream("next");
    let scheduled = NewVersion::keeping_key(&next).effective_at(at);
    let next = experiments::publish(conn, variant, scheduled).await.unwrap();
    assert_eq!(next.effective_at, at);

    let just_before = at - TICK;
    assert_eq!(current(conn, variant, just_before).await, now);
    assert_eq!(current(conn, variant, at).await, next.id);
    // A version that is published now is served until the scheduled one takes over.
    let swapped = experiments::publish(conn, variant, NewVersion::keeping_key(&upstream("swap")))
        .await
        .unwrap();
    assert_eq!(current(conn, variant, just_before).await, swapped.id);
    assert_eq!(current(conn, variant, at).await, next.id);
}

#[tokio::test]
async fn a_scheduled_version_keeps_the_key_that_is_current_by_then() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let variant = single(conn, "partner/foo").await;
    let soon = Timestamp::now() + Duration::hours(1);
    let (upstream, later) = (upstream("later"), key("sk-later"));
    let first = NewVersion::with_key(&upstream, &later).effective_at(soon);
    let second = NewVersion::keeping_key(&upstream).effective_at(soon + Duration::hours(1));
    for new in [first, second, NewVersion::keeping_key(&upstream)] {
        experiments::publish(conn, variant, new).await.unwrap();
    }
    let keys = "SELECT count(DISTINCT encrypted_api_key) AS number
                FROM model_experiment_variant_version WHERE effective_at > now()";
    assert_eq!(number(conn, keys).await, 1);
    assert_eq!(routed_key(conn, "partner/foo").await, API_KEY);
}

#[tokio::test]
async fn an_instant_is_taken_by_one_version_of_a_variant() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let ready = ready(conn, "partner/foo").await;
    let variant = ready.control.id;
    let at = tomorrow();
    let (upstream, key) = (upstream("rc2"), key("sk"));
    let scheduled = NewVersion::keeping_key(&upstream).effective_at(at);
    experiments::publish(conn, variant, scheduled).await.unwrap();
    for new in [NewVersion::with_key(&upstream, &key).effective_at(at), scheduled] {
        let taken = Error::InstantTaken { variant, effective_at: at };
        assert_eq!(experiments::publish(conn, variant, new).await, Err(taken));
    }
    // Another variant may have a version that is effective at the same instant.
    assert!(experiments::publish(conn, ready.candidate.id, scheduled).await.is_ok());
    assert_eq!(history(conn, variant).await.len(), 2);
    let later = scheduled.effective_at(at + TICK);
    assert!(experiments::publish(conn, variant, later).await.is_ok());
}

#[tokio::test]
async fn of_versions_effective_at_one_instant_the_highest_id_is_current() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let active = active(conn, "partner/foo").await;
    let (id, version) = (active.experiment.id, active.control_version);
    // As another writer may have left them, in both orders of insertion.
    unguard(conn).await;
    let low = "00000000-0000-4000-8000-000000000000";
    let high = "ffffffff-ffff-4fff-bfff-ffffffffffff";
    for copy in [high, low] {
        let insert = format!(
            "INSERT INTO model_experiment_variant_version
             SELECT '{copy}', variant_id, upstream, encrypted_api_key, effective_at
             FROM model_experiment_variant_version WHERE id = '{}'",
            version.id
        );
        raw(conn, &insert).await.unwrap();
    }
    let high = high.parse().unwrap();
    assert_eq!(current(conn, version.variant_id, version.effective_at).await, high);
    let now = Timestamp::now();
    let listed = experiments::list_versions_at(conn, id, now).await.unwrap();
    assert!(listed.iter().any(|(_, current)| current.as_ref().is_some_and(|of| of.id == high)));
    let model = active.experiment.public_model_id;
    let routed = routing::load(conn, &model).await.unwrap().unwrap();
    let users: Vec<_> = (0..50).map(|number| format!("user-{number}")).collect();
    assert!(users.iter().any(|user| {
        let route = routed.route(Subject::user(user.as_str()));
        matches!(route, Route::Serve(served) if served.version == high)
    }));
}

#[tokio::test]
async fn a_version_is_never_backdated() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    unguard(conn).await;
    let ready = ready(conn, "partner/foo").await;
    let at = ready.control_version.effective_at;
    let upstream = upstream("past");
    let backdated = NewVersion::keeping_key(&upstream).effective_at(at);
    match experiments::publish(conn, ready.control.id, backdated).await {
        Err(Error::Backdated { variant, effective_at, now }) => {
            assert_eq!((variant, effective_at), (ready.control.id, at));
            assert!(effective_at < now);
        }
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 2, versions: 2, ..Counts::default() }
    );
}

#[tokio::test]
async fn versions_are_added_until_the_experiment_is_completed() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    unguard(conn).await;
    let active = active(conn, "partner/foo").await;
    let (id, variant) = (active.experiment.id, active.control.id);
    let upstream = upstream("rc2");
    let new = NewVersion::keeping_key(&upstream);
    experiments::publish(conn, variant, new).await.unwrap();
    assert_eq!(experiments::pause(conn, id).await.unwrap().status, Status::Paused);
    experiments::publish(conn, variant, new).await.unwrap();
    experiments::complete(conn, id).await.unwrap();

    let completed = Err(Error::Completed(id));
    assert_eq!(experiments::publish(conn, variant, new).await, completed);
    let scheduled = new.effective_at(tomorrow());
    assert_eq!(experiments::publish(conn, variant, scheduled).await, completed);
    assert_eq!(experiments::rotate_key(conn, variant, &key("sk")).await, completed);
    assert_eq!(history(conn, variant).await.len(), 3);
}

#[tokio::test]
async fn an_unknown_variant_or_a_bad_user_is_refused() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let variant = VariantId::from(Uuid::now_v7());
    let (upstream, key) = (upstream("rc1"), key("sk"));
    let new = NewVersion::with_key(&upstream, &key);
    let not_found = Err(Error::VariantNotFound(variant));
    assert_eq!(experiments::publish(conn, variant, new).await, not_found);
    assert_eq!(experiments::rotate_key(conn, variant, &key).await, not_found);
    let not_found = Error::VariantNotFound(variant);
    let listed = experiments::list_versions(conn, variant, Page::first(1)).await;
    assert_eq!(listed, Err(not_found.clone()));
    let found = experiments::find_version_at(conn, variant, Timestamp::now()).await;
    assert_eq!(found, Err(not_found));

    let variant = ready(conn, "partner/foo").await.control.id;
    for new in [new, NewVersion::keeping_upstream(&key)] {
        let outcome = experiments::publish(conn, variant, new.created_by("a\0")).await;
        assert!(matches!(outcome, Err(Error::Invalid(_))), "{outcome:?}");
    }
    assert_eq!(history(conn, variant).await.len(), 1);
}

#[tokio::test]
async fn history_is_read_newest_first_page_by_page() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let variant = ready(conn, "partner/foo").await.control.id;
    let tomorrow = tomorrow();
    for round in 0..4 {
        let upstream = upstream(&format!("rc{round}"));
        let new = NewVersion::keeping_key(&upstream);
        experiments::publish(conn, variant, new).await.unwrap();
        let scheduled = new.effective_at(tomorrow - Duration::seconds(round));
        experiments::publish(conn, variant, scheduled).await.unwrap();
    }
    let whole = history(conn, variant).await;
    assert_eq!(whole.len(), 9);
    assert!(whole.is_sorted_by(|a, b| (a.effective_at, a.id) > (b.effective_at, b.id)));
    let mut paged = Vec::new();
    let mut page = Page::first(2);
    loop {
        let rows = experiments::list_versions(conn, variant, page).await.unwrap();
        let Some(last) = rows.last() else { break };
        page = Page::after(last.cursor(), 2);
        paged.extend(rows);
    }
    assert_eq!(paged, whole);
}

#[tokio::test]
async fn every_variant_is_listed_with_its_current_version() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let ready = ready(conn, "partner/foo").await;
    let id = ready.experiment.id;
    let bare = experiments::add_variant(conn, id, &label("bare"), weight(1)).await.unwrap();
    let at = ready.candidate_version.effective_at;
    let mut expected = vec![
        (ready.control, Some(ready.control_version)),
        (ready.candidate.clone(), Some(ready.candidate_version)),
        (bare, None),
    ];
    expected.sort_by_key(|(variant, _)| variant.id);
    let swapped = publish_now(conn, ready.candidate.id, "rc2").await;
    assert_eq!(experiments::list_versions_at(conn, id, at).await.unwrap(), expected);

    for (variant, version) in &mut expected {
        if variant.id == ready.candidate.id {
            *version = Some(swapped.clone());
        }
    }
    assert_eq!(
        experiments::list_versions_at(conn, id, swapped.effective_at).await.unwrap(),
        expected
    );
    let long_ago = at - Duration::days(1);
    let none = experiments::list_versions_at(conn, id, long_ago).await.unwrap();
    assert_eq!(none.len(), 3);
    assert!(none.iter().all(|(_, version)| version.is_none()));

    let unknown = ExperimentId::from(Uuid::now_v7());
    let listed = experiments::list_versions_at(conn, unknown, at).await;
    assert_eq!(listed, Err(Error::ExperimentNotFound(unknown)));
}

#[tokio::test]
async fn a_variant_that_is_deleted_meanwhile_is_not_found() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let ready = ready(conn, "partner/foo").await;
    let (id, variant) = (ready.experiment.id, ready.control.id);
    let other = &mut db.connect().await;
    let delete = format!(
        "BEGIN; SELECT 1 FROM model_experiment WHERE id = '{id}' FOR UPDATE;
         DELETE FROM model_experiment_variant WHERE id = '{variant}'"
    );
    raw(other, &delete).await.unwrap();
    let (upstream, watcher) = (upstream("rc2"), &mut db.connect().await);
    let publication = experiments::publish(conn, variant, NewVersion::keeping_key(&upstream));
    let (published, ()) = tokio::join!(publication, async {
        until_blocked(watcher).await;
        raw(other, "COMMIT").await.unwrap();
    });
    assert_eq!(published, Err(Error::VariantNotFound(variant)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_who_race_take_effect_in_the_order_in_which_they_commit() {
    async fn publish(pool: Pool, variant: VariantId) -> Version {
        let conn = &mut pool.get().await.unwrap();
        experiments::publish(conn, variant, NewVersion::keeping_key(&upstream("racer")))
            .await
            .unwrap()
    }
    let db = TestDatabase::new().await;
    let pool = db.pool(8);
    let conn = &mut db.connect().await;
    let variant = ready(conn, "partner/foo").await.control.id;
    let racers: Vec<_> = (0..32).map(|_| tokio::spawn(publish(pool.clone(), variant))).collect();
    for racer in racers {
        racer.await.unwrap();
    }
    // xmin shows the order of the transactions, each of which held the lock to its end.
    let out_of_order = "SELECT count(*) AS number FROM (
        SELECT effective_at <= lag(effective_at) OVER (ORDER BY xmin::text::bigint) AS is_wrong
        FROM model_experiment_variant_version WHERE upstream ->> 'internal_id' = 'racer'
    ) AS written WHERE is_wrong";
    assert_eq!(number(conn, out_of_order).await, 0);
    assert_eq!(history(conn, variant).await.len(), 33);
}
