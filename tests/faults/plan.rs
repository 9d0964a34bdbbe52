//! The kinds of faults and their frequencies.

use proptest::prelude::*;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::tested_recorder::WRITE_TIMEOUT;
use crate::wire;

/// A fault that affects one recorder, or all recorders of a database.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    Wire(wire::Fault),
    /// The server ends one of the recorder's connections.
    Terminate,
    /// A host inserts two of the same usages in the opposite order.
    Deadlock,
    /// So many statements find the disk full.
    DiskFull(u8),
    /// The table is locked for so long.
    Lock(Duration),
}

/// A fault and its position.
#[derive(Debug, Clone, Copy)]
pub struct PlannedFault {
    /// How many statements pass before it. At 0 it may break a statement that was just retried.
    pub after: usize,
    pub fault: Fault,
}

/// A crash of the server.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    pub uptime: Duration,
    pub downtime: Duration,
}

pub fn fault() -> impl Strategy<Value = PlannedFault> {
    use wire::Fault as Wire;
    let fault = prop_oneof![
        8 => Just(Wire::CutBefore).prop_map(Fault::Wire),
        8 => Just(Wire::CutExecuting).prop_map(Fault::Wire),
        6 => Just(Wire::CutUncommitted).prop_map(Fault::Wire),
        8 => microseconds(0..=3_000).prop_map(Wire::CutCommitting).prop_map(Fault::Wire),
        6 => Just(Wire::CutAnswering).prop_map(Fault::Wire),
        8 => Just(Wire::CutAfter).prop_map(Fault::Wire),
        2 => stall().prop_map(Wire::StallBefore).prop_map(Fault::Wire),
        2 => stall().prop_map(Wire::StallExecuting).prop_map(Fault::Wire),
        2 => stall().prop_map(Wire::StallAfter).prop_map(Fault::Wire),
        2 => Just(Wire::Silence).prop_map(Fault::Wire),
        2 => Just(Wire::Refuse).prop_map(Fault::Wire),
        1 => stall().prop_map(Wire::StallConnect).prop_map(Fault::Wire),
        6 => Just(Fault::Terminate),
        4 => Just(Fault::Deadlock),
        4 => (1..=3_u8).prop_map(Fault::DiskFull),
        1 => stall().prop_map(Fault::Lock),
    ];
    (0..=10_usize, fault).prop_map(|(after, fault)| PlannedFault { after, fault })
}

pub fn crash() -> impl Strategy<Value = Crash> {
    let times = (microseconds(2_000_000..=6_000_000), microseconds(0..=800_000));
    times.prop_map(|(uptime, downtime)| Crash { uptime, downtime })
}

/// Most often longer than a recorder waits.
fn stall() -> impl Strategy<Value = Duration> {
    let timeout = WRITE_TIMEOUT.as_micros() as u64;
    prop_oneof![
        3 => microseconds(timeout + 50_000..=timeout + 500_000),
        1 => microseconds(1_000..=timeout / 2),
    ]
}

fn microseconds(range: RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_micros)
}
