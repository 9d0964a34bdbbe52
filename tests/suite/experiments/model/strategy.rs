//! The operations of a case, and how often each occurs. Alternatives shrink to the first of them.

use model_experiments::values::{AllocationSubject, Status};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::experiments::model::known::{MODELS, USAGES};
use crate::experiments::model::operations::{Moment, NEVER, Operation};

/// Operations on few experiments, variants and versions, so that they conflict.
pub fn sequence() -> impl Strategy<Value = Vec<Operation>> {
    // Begins with experiments, variants and versions, so that the rest has something to work on.
    let beginning = (vec(create(), 1..=3), vec(add_variant(), 0..=8), vec(publish_now(), 0..=12));
    (beginning, vec(any_operation(), 0..=150)).prop_map(
        |((creations, insertions, publications), rest)| {
            [creations, insertions, publications, rest].concat()
        },
    )
}

fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        1 => create(),
        9 => lifecycle(),
        4 => structure(),
        7 => publication(),
        2 => write_tie(),
        5 => recording(),
        3 => route(),
        6 => reading(),
    ]
}

fn create() -> impl Strategy<Value = Operation> {
    (model(), name()).prop_map(|(model, name)| Operation::Create { model, name })
}

pub fn lifecycle() -> impl Strategy<Value = Operation> {
    prop_oneof![
        10 => experiment().prop_map(Operation::Activate),
        5 => experiment().prop_map(Operation::Pause),
        3 => experiment().prop_map(Operation::Complete),
        2 => experiment().prop_map(Operation::Archive),
        3 => experiment().prop_map(Operation::Unarchive),
        2 => experiment().prop_map(Operation::Delete),
    ]
}

pub fn structure() -> impl Strategy<Value = Operation> {
    let description = option::of(select(vec!["why", "because"]));
    let update = (experiment(), option::of(name()), option::of(description), option::of(model()))
        .prop_map(|(experiment, name, description, model)| Operation::Update {
            experiment,
            name,
            description,
            model,
        });
    prop_oneof![
        4 => add_variant(),
        2 => variant().prop_map(Operation::RemoveVariant),
        3 => (variant(), 1..=3).prop_map(|(variant, weight)| Operation::SetWeight { variant, weight }),
        3 => (variant(), label())
            .prop_map(|(variant, label)| Operation::SetLabel { variant, label }),
        3 => update,
    ]
}

fn add_variant() -> impl Strategy<Value = Operation> {
    (experiment(), label(), 1..=3).prop_map(|(experiment, label, weight)| Operation::AddVariant {
        experiment,
        label,
        weight,
    })
}

pub fn publication() -> impl Strategy<Value = Operation> {
    let at = (variant(), upstream(), option::of(key()), schedule()).prop_map(
        |(variant, upstream, key, at)| Operation::PublishAt { variant, upstream, key, at },
    );
    let rotate =
        (variant(), key()).prop_map(|(variant, key)| Operation::RotateKey { variant, key });
    prop_oneof![4 => publish_now(), 5 => at, 2 => rotate]
}

fn publish_now() -> impl Strategy<Value = Operation> {
    (variant(), upstream(), option::weighted(0.7, key()))
        .prop_map(|(variant, upstream, key)| Operation::PublishNow { variant, upstream, key })
}

fn write_tie() -> impl Strategy<Value = Operation> {
    version().prop_map(Operation::WriteTie)
}

pub fn recording() -> impl Strategy<Value = Operation> {
    let record =
        (usage(), 0..=1_i64, version(), subject()).prop_map(|(usage, cost, version, subject)| {
            Operation::Record { usage, cost, version, subject }
        });
    let attribute = (usage(), version(), subject())
        .prop_map(|(usage, version, subject)| Operation::Attribute { usage, version, subject });
    let insert_usage =
        (usage(), 0..=1_i64).prop_map(|(usage, cost)| Operation::InsertUsage { usage, cost });
    prop_oneof![
        4 => record,
        3 => attribute,
        2 => usage().prop_map(Operation::Replay),
        2 => insert_usage,
    ]
}

pub fn route() -> impl Strategy<Value = Operation> {
    (model(), select(vec!["ann", "ben", "cid", "dee"]))
        .prop_map(|(model, user)| Operation::Route { model, user })
}

fn reading() -> impl Strategy<Value = Operation> {
    let list = (model(), option::of(select(&Status::ALL)), any::<bool>(), moment()).prop_map(
        |(model, status, include_archived, until)| Operation::List {
            model,
            status,
            include_archived,
            until,
        },
    );
    prop_oneof![
        4 => (variant(), moment()).prop_map(|(variant, at)| Operation::FindCurrent { variant, at }),
        3 => (experiment(), moment())
            .prop_map(|(experiment, at)| Operation::ListCurrent { experiment, at }),
        3 => experiment().prop_map(|experiment| Operation::FindOverview { experiment }),
        2 => (variant(), 1..=3_u16)
            .prop_map(|(variant, page)| Operation::ReadHistory { variant, page }),
        3 => list,
        2 => usage().prop_map(Operation::FindUsage),
    ]
}

/// Mostly ahead, and often an instant that is taken.
fn schedule() -> impl Strategy<Value = Moment> {
    prop_oneof![4 => (1..=3_i64).prop_map(Moment::Hour), 3 => moment()]
}

fn moment() -> impl Strategy<Value = Moment> {
    prop_oneof![
        4 => (-1..=3_i64).prop_map(Moment::Hour),
        1 => Just(Moment::Latest),
        4 => (version(), -1..=1_i64)
            .prop_map(|(version, plus)| Moment::Effective { version, plus }),
        1 => (experiment(), -1..=1_i64)
            .prop_map(|(experiment, plus)| Moment::Created { experiment, plus }),
    ]
}

fn model() -> impl Strategy<Value = usize> {
    0..MODELS
}

fn experiment() -> impl Strategy<Value = usize> {
    one_of(3)
}

fn variant() -> impl Strategy<Value = usize> {
    one_of(6)
}

fn version() -> impl Strategy<Value = usize> {
    one_of(10)
}

fn one_of(numbers: usize) -> impl Strategy<Value = usize> {
    prop_oneof![19 => 0..numbers, 1 => Just(NEVER)]
}

fn usage() -> impl Strategy<Value = usize> {
    0..USAGES
}

fn key() -> impl Strategy<Value = usize> {
    0..2_usize
}

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![9 => select(vec!["foo", "bar", "baz"]), 1 => Just("")]
}

fn label() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c"])
}

fn upstream() -> impl Strategy<Value = &'static str> {
    select(vec!["rc1", "rc2", "rc3"])
}

fn subject() -> impl Strategy<Value = AllocationSubject> {
    select(&AllocationSubject::ALL)
}
