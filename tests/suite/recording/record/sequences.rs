//! Random batches, against a plain model: a batch has the outcomes of its items one after the
//! other.

use crate::random;
use crate::support::TestDatabase;
use crate::support::fixtures::{active, recorded, request, text};
use diesel_async::AsyncPgConnection;
use model_experiments::recording::{NewRequest, Outcome, Record, Usage, record};
use model_experiments::values::VersionId;
use model_experiments::{Error, Result};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// How many sequences are run.
const CASES: u32 = 200;

/// A usage by its number, its cost, and the client's id of its request.
#[derive(Debug, Clone, Copy)]
struct Item {
    number: u8,
    cost: i64,
    client: char,
}

/// An id that can't be stored.
const NUL: char = '\0';

#[derive(Debug, Clone)]
enum Batch {
    Records(Vec<Item>),
    Usages(Vec<Item>),
    Requests(Vec<Item>),
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let client = prop_oneof![4 => Just('a'), 1 => Just('b'), 1 => Just(NUL)];
    let cost = prop_oneof![4 => Just(1), 1 => Just(2)];
    let item =
        (0..8_u8, cost, client).prop_map(|(number, cost, client)| Item { number, cost, client });
    let items = vec(item, 0..6);
    let batch = prop_oneof![
        2 => items.clone().prop_map(Batch::Records),
        1 => items.clone().prop_map(Batch::Usages),
        1 => items.prop_map(Batch::Requests),
    ];
    vec(batch, 1..8)
}

/// The outcome of an item; of the columns that differ, the first.
#[derive(Debug, Clone, PartialEq)]
enum End {
    Recorded,
    AlreadyRecorded,
    Differently(&'static str),
    Invalid,
    NotFound,
}

fn end(outcome: Result<Outcome>) -> End {
    match outcome {
        Ok(Outcome::Recorded) => End::Recorded,
        Ok(Outcome::AlreadyRecorded) => End::AlreadyRecorded,
        Err(Error::RecordedDifferently { columns, .. }) => {
            End::Differently(columns.into_iter().next().unwrap())
        }
        Err(Error::Invalid(_)) => End::Invalid,
        Err(Error::UsageNotFound(_)) => End::NotFound,
        Err(error) => panic!("{error:?}"),
    }
}

/// A usage's cost, and the client's id of its request, if it has one.
struct Stored {
    cost: i64,
    client: Option<char>,
}

/// The usages by their numbers.
#[derive(Default)]
struct Model(BTreeMap<u8, Stored>);

impl Model {
    fn record(&mut self, item: Item) -> End {
        if item.client == NUL {
            return End::Invalid;
        }
        match self.usage(item) {
            differently @ End::Differently(_) => differently,
            _ => self.request(item),
        }
    }

    fn usage(&mut self, Item { number, cost, .. }: Item) -> End {
        match self.0.get(&number) {
            None => {
                self.0.insert(number, Stored { cost, client: None });
                End::Recorded
            }
            Some(stored) if stored.cost == cost => End::AlreadyRecorded,
            Some(_) => End::Differently("cost"),
        }
    }

    fn request(&mut self, Item { number, client, .. }: Item) -> End {
        if client == NUL {
            return End::Invalid;
        }
        let Some(stored) = self.0.get_mut(&number) else { return End::NotFound };
        match stored.client {
            None => {
                stored.client = Some(client);
                End::Recorded
            }
            Some(stored) if stored == client => End::AlreadyRecorded,
            Some(_) => End::Differently("client_request_id"),
        }
    }
}

/// The usages and the version that items stand for.
struct Known {
    usages: Vec<Usage>,
    version: VersionId,
}

impl Known {
    fn usage(&self, Item { number, cost, .. }: Item) -> Usage {
        Usage { cost, ..self.usages[usize::from(number)].clone() }
    }

    fn request(&self, Item { client, .. }: Item) -> NewRequest {
        request(self.version).client_request_id(client)
    }

    async fn run(&self, conn: &mut AsyncPgConnection, batch: &Batch) -> Vec<End> {
        let outcomes = match batch {
            Batch::Records(items) => {
                let record = |item: &Item| Record::new(self.usage(*item), self.request(*item));
                record::many(conn, &items.iter().map(record).collect::<Vec<_>>()).await
            }
            Batch::Usages(items) => {
                let usages: Vec<_> = items.iter().map(|item| self.usage(*item)).collect();
                record::usages(conn, &usages).await
            }
            Batch::Requests(items) => {
                let request = |item: &Item| (self.usage(*item).id, self.request(*item));
                record::attribute_many(conn, &items.iter().map(request).collect::<Vec<_>>()).await
            }
        };
        outcomes.unwrap().into_iter().map(end).collect()
    }
}

#[test]
fn a_batch_has_the_outcomes_of_its_items_one_after_the_other() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let db = runtime.block_on(TestDatabase::new());
    let conn = RefCell::new(runtime.block_on(db.connect()));
    let version = runtime.block_on(active(&mut conn.borrow_mut(), "partner/foo")).control_version;
    let seen = RefCell::new(BTreeMap::<String, usize>::new());
    let mut runner = random::runner();
    for _ in 0..CASES {
        let case = batches().new_tree(&mut runner).unwrap();
        let run = |batches: Vec<Batch>| {
            let conn = &mut conn.borrow_mut();
            let mut usages: Vec<_> = (0..8).map(|_| Usage::new("user-1")).collect();
            // Their ids have another order than their numbers.
            usages[2..].reverse();
            let known = Known { usages, version: version.id };
            runtime.block_on(run_case(conn, &known, &batches, &mut seen.borrow_mut()))
        };
        runner.run_one(case, run).unwrap_or_else(|failure| panic!("{failure}"));
    }
    let seen = seen.into_inner();
    assert_eq!(seen.len(), 6, "{seen:?}");
    assert!(seen.values().all(|times| *times > 3), "{seen:?}");
}

async fn run_case(
    conn: &mut AsyncPgConnection,
    known: &Known,
    batches: &[Batch],
    seen: &mut BTreeMap<String, usize>,
) -> Result<(), TestCaseError> {
    let before = recorded(conn).await;
    let mut model = Model::default();
    for batch in batches {
        let (items, expect): (_, fn(&mut Model, Item) -> End) = match batch {
            Batch::Records(items) => (items, Model::record),
            Batch::Usages(items) => (items, Model::usage),
            Batch::Requests(items) => (items, Model::request),
        };
        let expected: Vec<_> = items.iter().map(|item| expect(&mut model, *item)).collect();
        let ends = known.run(conn, batch).await;
        prop_assert_eq!(&ends, &expected, "{:?}", batch);
        for end in ends {
            *seen.entry(format!("{end:?}")).or_default() += 1;
        }
    }
    let after = recorded(conn).await;
    let requests = model.0.values().filter(|stored| stored.client.is_some()).count();
    prop_assert_eq!(after.usages - before.usages, model.0.len() as i64);
    prop_assert_eq!(after.requests - before.requests, requests as i64);
    for (number, Stored { cost, client }) in &model.0 {
        let stored = format!(
            "SELECT format('%s %s', cost, client_request_id) AS text FROM microdollar_usage AS usage
             LEFT JOIN model_experiment_request ON usage_id = usage.id WHERE usage.id = '{}'",
            known.usages[usize::from(*number)].id
        );
        let expected = format!("{cost} {}", client.map_or(String::new(), String::from));
        prop_assert_eq!(text(conn, &stored).await, expected);
    }
    Ok(())
}
