//! Which faults come, and how often.

use proptest::prelude::*;
use std::time::Duration;

use crate::tested_recorder::WRITE_TIMEOUT;
use crate::wire;

/// A fault for one recorder, or for all of a database.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    Wire(wire::Fault),
    /// The server ends one of the recorder's connections.
    Terminate,
    /// A host inserts two of the same usages in the opposite order.
    Deadlock,
    /// So many statements find no room on the disk.
    DiskFull(u8),
    /// The table is locked for so long.
    Lock(Duration),
}

/// A fault, and how many statements pass unharmed before it: without any, it may meet what another
/// has met.
pub type Planned = (usize, Fault);

pub fn fault() -> impl Strategy<Value = Planned> {
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
    (0..=10_usize, fault)
}

/// When the server is killed after it was up, and for how long.
pub fn crash() -> impl Strategy<Value = [Duration; 2]> {
    [microseconds(2_000_000..=6_000_000), microseconds(0..=800_000)]
}

/// Past the time that a recorder waits, or less often within.
fn stall() -> impl Strategy<Value = Duration> {
    let timeout = WRITE_TIMEOUT.as_micros() as u64;
    prop_oneof![
        3 => microseconds(timeout + 50_000..=timeout + 500_000),
        1 => microseconds(1_000..=timeout / 2),
    ]
}

fn microseconds(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_micros)
}
