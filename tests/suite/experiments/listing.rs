//! Listing experiments: newest first, filtered, page by page.

use crate::support::TestDatabase;
use crate::support::fixtures::{active, draft, public_model_id, raw_unguarded};
use model_experiments::Page;
use model_experiments::experiments::{self, ExperimentFilter};
use model_experiments::values::{ExperimentId, Status};

const ALL: u16 = 100;

#[tokio::test]
async fn pages_neither_repeat_nor_skip_even_where_instants_are_the_same() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    for number in 0..7 {
        draft(conn, &format!("partner/{number}")).await;
    }
    raw_unguarded(
        conn,
        "UPDATE model_experiment SET created_at = date_trunc('day', now())
         WHERE public_model_id IN ('partner/2', 'partner/3', 'partner/4')",
    )
    .await;
    let filter = ExperimentFilter::default();
    let whole = experiments::list(conn, &filter, Page::first(ALL)).await.unwrap();
    assert_eq!(whole.len(), 7);
    assert!(whole.is_sorted_by(|a, b| (a.created_at, a.id) > (b.created_at, b.id)));

    for size in [1, 2, 3, 7] {
        let mut paged = Vec::new();
        let mut page = Page::first(size);
        loop {
            let rows = experiments::list(conn, &filter, page).await.unwrap();
            assert!(rows.len() <= size.into());
            let Some(last) = rows.last() else { break };
            page = Page::after(last.cursor(), size);
            paged.extend(rows);
        }
        assert_eq!(paged, whole);
    }
}

#[tokio::test]
async fn a_page_stays_where_it_was_when_rows_are_added() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let (old, middle) = (draft(conn, "partner/a").await, draft(conn, "partner/b").await);
    let filter = ExperimentFilter::default();
    let next = Page::after(middle.cursor(), ALL);
    assert_eq!(experiments::list(conn, &filter, Page::first(1)).await, Ok(vec![middle]));
    draft(conn, "partner/c").await;
    assert_eq!(experiments::list(conn, &filter, next).await, Ok(vec![old]));
}

#[tokio::test]
async fn filters_combine_and_archived_ones_are_hidden() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let draft_foo = draft(conn, "partner/foo").await.id;
    let active_foo = active(conn, "partner/foo").await.experiment.id;
    let active_bar = active(conn, "partner/bar").await.experiment.id;
    let archived = draft(conn, "partner/foo").await.id;
    experiments::archive(conn, archived).await.unwrap();

    let foo = || ExperimentFilter::default().public_model_id(public_model_id("partner/foo"));
    for (filter, expected) in [
        (ExperimentFilter::default(), vec![active_bar, active_foo, draft_foo]),
        (
            ExperimentFilter::default().include_archived(),
            vec![archived, active_bar, active_foo, draft_foo],
        ),
        (ExperimentFilter::default().status(Status::Active), vec![active_bar, active_foo]),
        (foo(), vec![active_foo, draft_foo]),
        (foo().status(Status::Draft), vec![draft_foo]),
        (foo().status(Status::Draft).include_archived(), vec![archived, draft_foo]),
        (foo().status(Status::Paused), vec![]),
    ] {
        let listed = experiments::list(conn, &filter, Page::first(ALL)).await.unwrap();
        let ids: Vec<ExperimentId> = listed.into_iter().map(|experiment| experiment.id).collect();
        assert_eq!(ids, expected, "{filter:?}");
    }
}
