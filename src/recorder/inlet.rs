//! The way into a queue.

use std::sync::Arc;

use super::metrics::Metrics;
use super::queue::Queue;
use super::row::{NotRecorded, Part, Receipt, Room, Row, size};
use crate::error::{Error, Result};
use crate::operations::record::Record;
use crate::values::UsageId;

/// Puts rows into a queue, which is closed when this is dropped.
pub(super) struct Inlet {
    queue: Arc<Queue>,
    /// What is to be written of the rows.
    part: Part,
    metrics: Arc<Metrics>,
}

/// Says of a record whose caller doesn't wait for room any more that it is lost.
struct Waiting(Option<UsageId>);

impl Inlet {
    pub(super) fn new(queue: Arc<Queue>, part: Part, metrics: Arc<Metrics>) -> Self {
        Self { queue, part, metrics }
    }

    /// Takes no more.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// Takes a record when there is room.
    pub(super) async fn take(&self, mut record: Record) -> Result<Receipt, NotRecorded> {
        let room = match record.check() {
            Ok(()) => {
                let mut waiting = Waiting(Some(record.usage.id));
                let room = self.queue.room(size(&mut record)).await;
                waiting.0 = None;
                room
            }
            Err(invalid) => Err(invalid.into()),
        };
        self.push(record, room)
    }

    /// Takes a record if there is room.
    pub(super) fn try_take(&self, mut record: Record) -> Result<Receipt, NotRecorded> {
        let room = match record.check() {
            Ok(()) => self.queue.try_room(size(&mut record)),
            Err(invalid) => Err(invalid.into()),
        };
        if room.as_ref().is_err_and(|error| *error == Error::RecorderFull) {
            self.metrics.refused.increment(1);
        }
        self.push(record, room)
    }

    fn push(&self, record: Record, room: Result<Room>) -> Result<Receipt, NotRecorded> {
        let record = Box::new(record);
        let room = match room {
            Ok(room) => room,
            Err(error) => return Err(NotRecorded { record, error }),
        };
        let (row, receipt) = Row::new(record, self.part, room, Arc::clone(&self.metrics));
        // A row that a closed queue doesn't take tells its receipt.
        self.queue.push(row);
        Ok(receipt)
    }

    /// Takes a row of which another part is written already, if there is room; else it has failed.
    pub(super) fn pass_on(&self, mut row: Row) {
        match self.queue.try_room(size(&mut row.record)) {
            Ok(room) => {
                row.moved(room);
                self.queue.push(row);
            }
            Err(error) => drop(row.failed(error)),
        }
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.close();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(usage) = self.0 {
            tracing::error!(%usage, "a record is lost: its caller stopped waiting for room");
        }
    }
}
