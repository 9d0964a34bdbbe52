//! An experiment's life: every transition, and every refusal.

use crate::support::TestDatabase;
use crate::support::fixtures::{
    self, Counts, active, counts, draft, label, publish_now, ready, record_new, record_one,
    request, unguard, weight,
};
use chrono::Duration;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use model_experiments::error::NotReady;
use model_experiments::experiments::NewVersion;
use model_experiments::recording::Usage;
use model_experiments::values::{ExperimentId, Status, Timestamp};
use model_experiments::{Error, experiments};
use uuid::Uuid;

#[tokio::test]
async fn runs_from_draft_to_completed() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let draft = ready(conn, "partner/foo").await.experiment;
    assert_eq!((draft.status, draft.started_at, draft.ended_at), (Status::Draft, None, None));

    let active = experiments::activate(conn, draft.id).await.unwrap();
    assert_eq!(active.status, Status::Active);
    assert!(active.started_at.is_some() && active.updated_at > draft.updated_at);

    let paused = experiments::pause(conn, draft.id).await.unwrap();
    assert_eq!((paused.status, paused.started_at), (Status::Paused, active.started_at));

    let resumed = experiments::activate(conn, draft.id).await.unwrap();
    assert_eq!((resumed.status, resumed.started_at), (Status::Active, active.started_at));
    assert_eq!(resumed.ended_at, None);

    let completed = experiments::complete(conn, draft.id).await.unwrap();
    assert_eq!((completed.status, completed.started_at), (Status::Completed, active.started_at));
    assert!(completed.ended_at > completed.started_at);
    assert_eq!(experiments::find(conn, draft.id).await.unwrap(), Some(completed));
}

#[tokio::test]
async fn a_paused_experiment_can_be_completed() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = active(conn, "partner/foo").await.experiment.id;
    experiments::pause(conn, id).await.unwrap();
    assert_eq!(experiments::complete(conn, id).await.unwrap().status, Status::Completed);
}

#[tokio::test]
async fn repeating_a_transition_changes_nothing() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = ready(conn, "partner/foo").await.experiment.id;

    let active = experiments::activate(conn, id).await.unwrap();
    assert_eq!(experiments::activate(conn, id).await.unwrap(), active);
    let paused = experiments::pause(conn, id).await.unwrap();
    assert_eq!(experiments::pause(conn, id).await.unwrap(), paused);
    let archived = experiments::archive(conn, id).await.unwrap();
    assert_eq!(experiments::archive(conn, id).await.unwrap(), archived);
    let shown = experiments::unarchive(conn, id).await.unwrap();
    assert_eq!(experiments::unarchive(conn, id).await.unwrap(), shown);
    let completed = experiments::complete(conn, id).await.unwrap();
    assert_eq!(experiments::complete(conn, id).await.unwrap(), completed);
}

#[tokio::test]
async fn refuses_every_other_transition() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    unguard(conn).await;
    let draft = draft(conn, "partner/draft").await;
    let completed = active(conn, "partner/completed").await.experiment;
    let completed = experiments::complete(conn, completed.id).await.unwrap();
    let refusal = |experiment, from, to| Error::InvalidTransition { experiment, from, to };

    let error = experiments::pause(conn, draft.id).await.unwrap_err();
    assert_eq!(error, refusal(draft.id, Status::Draft, Status::Paused));
    let error = experiments::complete(conn, draft.id).await.unwrap_err();
    assert_eq!(error, refusal(draft.id, Status::Draft, Status::Completed));
    let error = experiments::activate(conn, completed.id).await.unwrap_err();
    assert_eq!(error, refusal(completed.id, Status::Completed, Status::Active));
    let error = experiments::pause(conn, completed.id).await.unwrap_err();
    assert_eq!(error, refusal(completed.id, Status::Completed, Status::Paused));
    assert!(!error.is_retryable());

    assert_eq!(experiments::find(conn, draft.id).await.unwrap(), Some(draft));
    assert_eq!(experiments::find(conn, completed.id).await.unwrap(), Some(completed));
}

#[tokio::test]
async fn an_unknown_experiment_is_not_found() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = ExperimentId::from(Uuid::now_v7());
    let not_found = Err(Error::ExperimentNotFound(id));
    assert_eq!(experiments::activate(conn, id).await, not_found);
    assert_eq!(experiments::pause(conn, id).await, not_found);
    assert_eq!(experiments::complete(conn, id).await, not_found);
    assert_eq!(experiments::archive(conn, id).await, not_found);
    assert_eq!(experiments::unarchive(conn, id).await, not_found);
    assert_eq!(experiments::delete(conn, id).await, Err(Error::ExperimentNotFound(id)));
    assert_eq!(experiments::find(conn, id).await.unwrap(), None);
}

#[tokio::test]
async fn activation_needs_a_variant() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    unguard(conn).await;
    let draft = draft(conn, "partner/foo").await;
    assert_eq!(
        experiments::activate(conn, draft.id).await,
        Err(Error::NotReady { experiment: draft.id, reason: NotReady::NoVariant })
    );
    assert_eq!(experiments::find(conn, draft.id).await.unwrap(), Some(draft));
}

#[tokio::test]
async fn activation_needs_a_current_version_of_every_variant() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    unguard(conn).await;
    let ready = ready(conn, "partner/foo").await;
    let name = label("late");
    let late = experiments::add_variant(conn, ready.experiment.id, &name, weight(1)).await.unwrap();
    let refusal = Error::NotReady {
        experiment: ready.experiment.id,
        reason: NotReady::NoCurrentVersion { variant: late.id, label: name },
    };
    assert_eq!(experiments::activate(conn, ready.experiment.id).await, Err(refusal.clone()));

    // A version that is only scheduled doesn't help.
    let (upstream, key) = (fixtures::upstream("later"), fixtures::key("sk"));
    let tomorrow = Timestamp::now() + Duration::days(1);
    let scheduled = NewVersion::with_key(&upstream, &key).effective_at(tomorrow);
    experiments::publish(conn, late.id, scheduled).await.unwrap();
    assert_eq!(experiments::activate(conn, ready.experiment.id).await, Err(refusal));

    publish_now(conn, late.id, "now").await;
    assert!(experiments::activate(conn, ready.experiment.id).await.is_ok());
}

#[tokio::test]
async fn activation_needs_a_free_public_model_id() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let first = active(conn, "partner/foo").await.experiment;
    let second = ready(conn, "partner/foo").await.experiment;
    let taken = Error::PublicModelIdTaken {
        public_model_id: second.public_model_id.clone(),
        routed_by: first.id,
    };
    assert_eq!(experiments::activate(conn, second.id).await, Err(taken.clone()));
    experiments::pause(conn, first.id).await.unwrap();
    assert_eq!(experiments::activate(conn, second.id).await, Err(taken));
    experiments::complete(conn, first.id).await.unwrap();
    assert!(experiments::activate(conn, second.id).await.is_ok());
}

#[tokio::test]
async fn the_unique_index_has_the_last_word_on_the_public_model_id() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let (first, second) = (ready(conn, "partner/foo").await, ready(conn, "partner/foo").await);

    // Another session activates the first one, and commits after the second was checked.
    let other = &mut db.connect().await;
    fixtures::raw(
        other,
        &format!(
            "BEGIN; UPDATE model_experiment SET status = 'active', started_at = now() WHERE id = '{}'",
            first.experiment.id
        ),
    )
    .await
    .unwrap();
    let (activated, ()) = tokio::join!(experiments::activate(conn, second.experiment.id), async {
        fixtures::until_blocked(&mut db.connect().await).await;
        fixtures::raw(other, "COMMIT").await.unwrap();
    });
    assert_eq!(
        activated,
        Err(Error::PublicModelIdTaken {
            public_model_id: second.experiment.public_model_id,
            routed_by: first.experiment.id,
        })
    );
}

#[tokio::test]
async fn everything_may_happen_inside_a_transaction_of_the_caller() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let rolled_back = conn
        .transaction(async |conn| {
            let experiment = active(conn, "partner/foo").await.experiment;
            assert_eq!(experiment.status, Status::Active);
            let second = ready(conn, "partner/foo").await.experiment;
            // A refusal rolls back to the operation's own savepoint only.
            assert!(experiments::activate(conn, second.id).await.is_err());
            experiments::pause(conn, experiment.id).await?;
            Err::<(), _>(Error::ExperimentNotFound(experiment.id))
        })
        .await;
    assert!(matches!(rolled_back, Err(Error::ExperimentNotFound(_))));
    assert_eq!(counts(conn).await, Counts::default());
}

#[tokio::test]
async fn instants_are_in_the_order_of_events_whenever_the_transaction_began() {
    let db = TestDatabase::new().await;
    let (conn, other) = (&mut db.connect().await, &mut db.connect().await);
    let id = ready(conn, "partner/foo").await.experiment.id;
    fixtures::raw(other, "BEGIN; SELECT 1").await.unwrap();
    let active = experiments::activate(conn, id).await.unwrap();
    let completed = experiments::complete(other, id).await.unwrap();
    assert!(completed.ended_at > active.started_at && completed.updated_at > active.updated_at);
    fixtures::raw(other, "COMMIT").await.unwrap();
}

#[tokio::test]
async fn a_connection_refuses_everything_after_an_operation_on_it_was_cancelled() {
    let db = TestDatabase::new().await;
    let (mut cancelled, other) = (db.connect().await, &mut db.connect().await);
    let conn = &mut cancelled;
    let active = active(conn, "partner/foo").await;
    let id = active.experiment.id;
    let lock = format!("BEGIN; SELECT 1 FROM model_experiment WHERE id = '{id}' FOR UPDATE");
    fixtures::raw(other, &lock).await.unwrap();
    let watcher = &mut db.connect().await;
    tokio::select! {
        paused = experiments::pause(conn, id) => panic!("{paused:?} behind a lock"),
        () = fixtures::until_blocked(watcher) => {}
    }
    fixtures::raw(other, "COMMIT").await.unwrap();

    // On the server its transaction is open. What it wrote now would be rolled back with it.
    let usage = Usage::new("user-1");
    let recorded = record_one(conn, &usage, &request(active.control_version.id)).await;
    let error = recorded.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("take another"), "{error}");
    assert_eq!(experiments::complete(conn, id).await.unwrap_err(), error);
    assert_eq!(experiments::find(conn, id).await.unwrap_err(), error);
    drop(cancelled);
    assert_eq!(experiments::pause(other, id).await.unwrap().status, Status::Paused);
}

#[tokio::test]
async fn a_draft_whose_versions_served_requests_is_kept() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let ready = ready(conn, "partner/foo").await;
    let new = request(ready.control_version.id);
    record_new(conn, &Usage::new("user-1"), &new).await;
    let id = ready.experiment.id;
    assert_eq!(experiments::delete(conn, id).await, Err(Error::HasRequests(id)));
    let deleted = experiments::remove_variant(conn, ready.control.id).await;
    assert_eq!(deleted, Err(Error::HasRequests(id)));
    assert!(experiments::remove_variant(conn, ready.candidate.id).await.is_ok());
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 1, versions: 1, usages: 1, requests: 1 }
    );
}

#[tokio::test]
async fn an_active_experiment_can_not_be_archived_nor_an_archived_one_activated() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let id = active(conn, "partner/foo").await.experiment.id;
    assert_eq!(experiments::archive(conn, id).await, Err(Error::ActiveNotArchivable(id)));

    experiments::pause(conn, id).await.unwrap();
    let archived = experiments::archive(conn, id).await.unwrap();
    assert_eq!((archived.is_archived, archived.status), (true, Status::Paused));
    assert_eq!(
        experiments::activate(conn, id).await,
        Err(Error::NotReady { experiment: id, reason: NotReady::Archived })
    );
    assert!(!experiments::unarchive(conn, id).await.unwrap().is_archived);
    assert!(experiments::activate(conn, id).await.is_ok());
}

#[tokio::test]
async fn only_a_draft_is_deleted_with_all_it_has() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    unguard(conn).await;
    let doomed = ready(conn, "partner/foo").await.experiment;
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 2, versions: 2, ..Counts::default() }
    );
    experiments::delete(conn, doomed.id).await.unwrap();
    assert_eq!(counts(conn).await, Counts::default());

    let kept = active(conn, "partner/foo").await.experiment.id;
    assert_kept(conn, kept, Status::Active).await;
    experiments::pause(conn, kept).await.unwrap();
    assert_kept(conn, kept, Status::Paused).await;
    experiments::complete(conn, kept).await.unwrap();
    assert_kept(conn, kept, Status::Completed).await;
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 2, versions: 2, ..Counts::default() }
    );
}

async fn assert_kept(conn: &mut AsyncPgConnection, experiment: ExperimentId, status: Status) {
    let refusal = Error::NotDraft { experiment, status };
    assert_eq!(experiments::delete(conn, experiment).await, Err(refusal));
}
