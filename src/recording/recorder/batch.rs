//! Bounds of a batch, which one statement writes.

use std::collections::VecDeque;

use crate::recording::recorder::pending_record::PendingRecord;

/// Maximum size of a batch's records, in bytes, unless it is a single one.
///
/// PostgreSQL takes messages of up to 1 GiB. This is far below it, since a statement's parameters
/// and its message are copies of the records.
pub(super) const MAX_BATCH_BYTES: usize = 4 << 20;

/// Takes a batch of up to `max_records` from the front, or a single record that is larger.
pub(super) fn take_batch(
    records: &mut VecDeque<PendingRecord>,
    max_records: usize,
) -> Vec<PendingRecord> {
    let mut bytes = 0;
    let fitting = records.iter().take(max_records).take_while(|record| {
        bytes += record.size();
        bytes <= MAX_BATCH_BYTES
    });
    let len = fitting.count().max(1).min(records.len());
    records.drain(..len).collect()
}
