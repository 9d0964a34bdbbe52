//! What an experiment is made of: its details, variants, weights and labels, and when they may
//! change.

use crate::support::TestDatabase;
use crate::support::fixtures::{
    Counts, active, counts, draft, label, public_model_id, raw, ready, unguard, until_blocked,
    weight,
};
use diesel_async::AsyncPgConnection;
use model_experiments::Error;
use model_experiments::experiments::{self, ExperimentChanges, NewExperiment};
use model_experiments::values::{ExperimentId, Status, VariantId};
use uuid::Uuid;

#[tokio::test]
async fn a_draft_is_inserted_as_it_was_given() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let new = NewExperiment::new(public_model_id("partner/foo"), "Foo")
        .description("Is rc2 better?")
        .created_by("alice");
    let inserted = experiments::create(conn, &new).await.unwrap();
    assert_eq!(inserted.public_model_id.as_str(), "partner/foo");
    assert_eq!(inserted.name, "Foo");
    assert_eq!(inserted.description.as_deref(), Some("Is rc2 better?"));
    assert_eq!(inserted.created_by_user_id.as_deref(), Some("alice"));
    assert_eq!((inserted.status, inserted.is_archived), (Status::Draft, false));
    assert_eq!(inserted.created_at, inserted.updated_at);
    assert_eq!(experiments::find(conn, inserted.id).await.unwrap(), Some(inserted));

    let plain = draft(conn, "partner/foo").await;
    assert_eq!((plain.description, plain.created_by_user_id), (None, None));
}

#[tokio::test]
async fn text_that_can_not_be_stored_is_refused_by_name() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = || public_model_id("partner/foo");
    for (new, field) in [
        (NewExperiment::new(foo(), ""), "name"),
        (NewExperiment::new(foo(), "a\0"), "name"),
        (NewExperiment::new(foo(), "a").description("\0"), "description"),
        (NewExperiment::new(foo(), "a").created_by("\0"), "created_by_user_id"),
    ] {
        match experiments::create(conn, &new).await {
            Err(Error::Invalid(invalid)) => assert_eq!(invalid.field(), field),
            outcome => panic!("{outcome:?}"),
        }
    }
    let id = draft(conn, "partner/foo").await.id;
    for changes in [
        ExperimentChanges::default().name(""),
        ExperimentChanges::default().name("\0"),
        ExperimentChanges::default().description(Some("\0".to_owned())),
    ] {
        let outcome = experiments::update(conn, id, &changes).await;
        assert!(matches!(outcome, Err(Error::Invalid(_))), "{outcome:?}");
    }
    assert_eq!(counts(conn).await, Counts { experiments: 1, ..Counts::default() });
}

#[tokio::test]
async fn details_change_each_by_itself() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let new = NewExperiment::new(public_model_id("partner/foo"), "Foo").description("Why");
    let before = experiments::create(conn, &new).await.unwrap();

    let renamed = ExperimentChanges::default().name("Bar");
    let renamed = experiments::update(conn, before.id, &renamed).await.unwrap();
    assert_eq!((renamed.name.as_str(), renamed.description.as_deref()), ("Bar", Some("Why")));
    assert!(renamed.updated_at > before.updated_at);

    let cleared = ExperimentChanges::default().description(None);
    let cleared = experiments::update(conn, before.id, &cleared).await.unwrap();
    assert_eq!((cleared.name.as_str(), cleared.description), ("Bar", None));

    let moved = ExperimentChanges::default().public_model_id(public_model_id("partner/bar"));
    let moved = experiments::update(conn, before.id, &moved).await.unwrap();
    assert_eq!(moved.public_model_id.as_str(), "partner/bar");

    let touched =
        experiments::update(conn, before.id, &ExperimentChanges::default()).await.unwrap();
    assert_eq!((&touched.name, &touched.public_model_id), (&moved.name, &moved.public_model_id));

    let unknown = ExperimentId::from(Uuid::now_v7());
    assert_eq!(
        experiments::update(conn, unknown, &ExperimentChanges::default()).await,
        Err(Error::ExperimentNotFound(unknown))
    );
}

#[tokio::test]
async fn only_a_draft_takes_another_public_model_id() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    unguard(conn).await;
    let id = active(conn, "partner/foo").await.experiment.id;
    let moved =
        ExperimentChanges::default().public_model_id(public_model_id("partner/bar")).name("Bar");
    let refusal = |status| Err(Error::NotDraft { experiment: id, status });
    assert_eq!(experiments::update(conn, id, &moved).await, refusal(Status::Active));
    experiments::complete(conn, id).await.unwrap();
    assert_eq!(experiments::update(conn, id, &moved).await, refusal(Status::Completed));
    assert_eq!(experiments::find(conn, id).await.unwrap().unwrap().name, "rc1 or rc2");

    // The same public model id is no move, and a name changes at any time.
    let renamed =
        ExperimentChanges::default().public_model_id(public_model_id("partner/foo")).name("Bar");
    assert_eq!(experiments::update(conn, id, &renamed).await.unwrap().name, "Bar");
}

#[tokio::test]
async fn a_drafts_variants_come_change_and_go() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = draft(conn, "partner/foo").await.id;
    let a = experiments::add_variant(conn, id, &label("a"), weight(1)).await.unwrap();
    let b = experiments::add_variant(conn, id, &label("b"), weight(i32::MAX)).await.unwrap();
    assert_eq!((a.experiment_id, &a.label, a.weight), (id, &label("a"), weight(1)));

    let heavier = experiments::set_weight(conn, a.id, weight(5)).await.unwrap();
    assert_eq!(heavier.weight, weight(5));
    assert!(heavier.updated_at > a.updated_at);
    let renamed = experiments::set_label(conn, a.id, &label("c")).await.unwrap();
    assert_eq!((renamed.label.as_str(), renamed.weight), ("c", weight(5)));

    let mut expected = vec![renamed, b.clone()];
    expected.sort_by_key(|variant| variant.id);
    assert_eq!(experiments::list_variants(conn, id).await.unwrap(), expected);

    experiments::remove_variant(conn, a.id).await.unwrap();
    assert_eq!(experiments::list_variants(conn, id).await.unwrap(), [b]);
    assert_eq!(experiments::remove_variant(conn, a.id).await, Err(Error::VariantNotFound(a.id)));
}

#[tokio::test]
async fn a_label_is_unique_within_its_experiment() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let (first, second) =
        (draft(conn, "partner/foo").await.id, draft(conn, "partner/foo").await.id);
    experiments::add_variant(conn, first, &label("a"), weight(1)).await.unwrap();
    let b = experiments::add_variant(conn, first, &label("b"), weight(1)).await.unwrap();
    assert!(experiments::add_variant(conn, second, &label("a"), weight(1)).await.is_ok());

    let taken = Error::LabelTaken { experiment: first, label: label("a") };
    let again = experiments::add_variant(conn, first, &label("a"), weight(1)).await;
    assert_eq!(again, Err(taken.clone()));
    assert_eq!(experiments::set_label(conn, b.id, &label("a")).await, Err(taken));
    assert!(experiments::set_label(conn, b.id, &label("b")).await.is_ok());
}

#[tokio::test]
async fn structure_is_fixed_once_an_experiment_has_left_draft() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    unguard(conn).await;
    let active = active(conn, "partner/foo").await;
    let (id, variant) = (active.experiment.id, active.control.id);
    assert_fixed(conn, id, variant, Status::Active).await;
    let labelled = experiments::set_label(conn, variant, &label("active")).await.unwrap();
    assert_eq!(labelled.label, label("active"));

    experiments::pause(conn, id).await.unwrap();
    assert_fixed(conn, id, variant, Status::Paused).await;
    let labelled = experiments::set_label(conn, variant, &label("paused")).await.unwrap();
    assert_eq!(labelled.label, label("paused"));

    experiments::complete(conn, id).await.unwrap();
    assert_fixed(conn, id, variant, Status::Completed).await;
    let labelled = experiments::set_label(conn, variant, &label("completed")).await;
    assert_eq!(labelled, Err(Error::Completed(id)));
    assert_eq!(experiments::list_variants(conn, id).await.unwrap().len(), 2);
}

/// Fails unless every change of structure is refused, since the experiment is in `status`.
async fn assert_fixed(
    conn: &mut AsyncPgConnection,
    experiment: ExperimentId,
    variant: VariantId,
    status: Status,
) {
    let refusal = Error::NotDraft { experiment, status };
    let added = experiments::add_variant(conn, experiment, &label("new"), weight(1)).await;
    assert_eq!(added, Err(refusal.clone()));
    assert_eq!(experiments::set_weight(conn, variant, weight(9)).await, Err(refusal.clone()));
    assert_eq!(experiments::remove_variant(conn, variant).await, Err(refusal));
}

#[tokio::test]
async fn an_unknown_experiment_or_variant_is_not_found() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let experiment = ExperimentId::from(Uuid::now_v7());
    let variant = VariantId::from(Uuid::now_v7());
    let (new, one) = (label("a"), weight(1));
    assert_eq!(
        experiments::add_variant(conn, experiment, &new, one).await,
        Err(Error::ExperimentNotFound(experiment))
    );
    let not_found = Err(Error::VariantNotFound(variant));
    assert_eq!(experiments::set_weight(conn, variant, one).await, not_found);
    assert_eq!(experiments::set_label(conn, variant, &new).await, not_found);
    assert_eq!(
        experiments::remove_variant(conn, variant).await,
        Err(Error::VariantNotFound(variant))
    );
    assert_eq!(
        experiments::list_variants(conn, experiment).await,
        Err(Error::ExperimentNotFound(experiment))
    );
    assert_eq!(experiments::find_variant(conn, variant).await, Ok(None));
}

#[tokio::test]
async fn a_change_of_structure_waits_for_a_transition_and_is_then_refused() {
    let db = TestDatabase::new().await;
    let (conn, other) = (&mut db.connect().await, &mut db.connect().await);
    unguard(conn).await;
    let watcher = &mut db.connect().await;
    let name = label("new");
    let moved = ExperimentChanges::default().public_model_id(public_model_id("partner/bar"));
    for change in ["add a variant", "move", "set a weight", "delete"] {
        let foo = ready(conn, "partner/foo").await;
        let id = foo.experiment.id;
        let activate = "UPDATE model_experiment SET status = 'active', started_at = now()";
        raw(other, &format!("BEGIN; {activate} WHERE id = '{id}'")).await.unwrap();
        let changed = async {
            match change {
                "add a variant" => {
                    experiments::add_variant(conn, id, &name, weight(1)).await.map(drop)
                }
                "move" => experiments::update(conn, id, &moved).await.map(drop),
                "set a weight" => {
                    experiments::set_weight(conn, foo.control.id, weight(9)).await.map(drop)
                }
                _ => experiments::delete(conn, id).await,
            }
        };
        let (changed, ()) = tokio::join!(changed, async {
            until_blocked(watcher).await;
            raw(other, "COMMIT").await.unwrap();
        });
        assert_eq!(changed, Err(Error::NotDraft { experiment: id, status: Status::Active }));
        experiments::complete(conn, id).await.unwrap();
    }
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 4, variants: 8, versions: 8, ..Counts::default() }
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activation_and_structure_never_change_at_once() {
    let db = TestDatabase::new().await;
    let pool = db.pool(2);
    let conn = &mut db.connect().await;
    unguard(conn).await;
    for round in 0..20 {
        let ready = ready(conn, &format!("partner/{round}")).await;
        let (id, variant) = (ready.experiment.id, ready.control.id);
        let activated = {
            let pool = pool.clone();
            tokio::spawn(async move {
                let conn = &mut pool.get().await?;
                experiments::activate(conn, id).await
            })
        };
        let deleted = {
            let pool = pool.clone();
            tokio::spawn(async move {
                let conn = &mut pool.get().await?;
                experiments::remove_variant(conn, variant).await
            })
        };
        assert_eq!(activated.await.unwrap().unwrap().status, Status::Active);
        let left = experiments::list_variants(conn, id).await.unwrap().len();
        match deleted.await.unwrap() {
            Ok(()) => assert_eq!(left, 1),
            Err(Error::NotDraft { status: Status::Active, .. }) => assert_eq!(left, 2),
            Err(error) => panic!("{error:?}"),
        }
    }
}
