//! Pending records for unit tests.

use std::sync::Arc;
use std::time::Duration;

use crate::recording::recorder::capacity::Capacity;
use crate::recording::recorder::metrics::Metrics;
use crate::recording::recorder::part::Part;
use crate::recording::recorder::pending_record::PendingRecord;
use crate::recording::recorder::receipt::Receipt;
use crate::recording::types::Record;
use crate::tables::requests::NewRequest;
use crate::tables::usages::Usage;
use crate::values::{AllocationSubject, VersionId};

/// A record of `size` bytes that was accepted `age` ago.
pub(super) fn sample(
    capacity: &Capacity,
    version: VersionId,
    size: u32,
    age: Duration,
) -> (PendingRecord, Receipt) {
    let request = NewRequest::new(version, AllocationSubject::User);
    let record = Box::new(Record::new(Usage::new("user-1"), request));
    let reservation = capacity.try_reserve(size).unwrap();
    let metrics = Arc::new(Metrics::new(Part::Both));
    let (mut pending, receipt) = PendingRecord::new(record, size, Part::Both, reservation, metrics);
    pending.accepted -= age;
    (pending, receipt)
}
