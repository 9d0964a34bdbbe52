//! Taking records, when and if there is room.

use std::sync::Arc;

use super::capacity::{Capacity, Room};
use super::metrics::Metrics;
use super::queue::Feed;
use super::row::{NotRecorded, Part, Receipt, Row, size};
use crate::error::{Error, Result};
use crate::operations::record::Record;
use crate::values::{InvalidValue, UsageId};

/// Where records come in.
pub(super) struct Inlet {
    capacity: Arc<Capacity>,
    feed: Arc<Feed>,
    /// What is to be written of them first.
    part: Part,
    metrics: Arc<Metrics>,
}

/// Says of a record whose caller doesn't wait for room any more that it is lost.
struct Abandoned(Option<UsageId>);

impl Inlet {
    pub(super) fn new(
        capacity: Arc<Capacity>,
        feed: Arc<Feed>,
        part: Part,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { capacity, feed, part, metrics }
    }

    /// Takes no more.
    pub(super) fn close(&self) {
        self.capacity.close();
        self.feed.close();
    }

    /// Takes a record when there is room.
    pub(super) async fn take(&self, mut record: Record) -> Result<Receipt, NotRecorded> {
        let room = match self.check(&record) {
            Ok(()) => {
                let mut waiting = Abandoned(Some(record.usage.id));
                let room = self.capacity.room(size(&mut record)).await;
                waiting.0 = None;
                room
            }
            Err(invalid) => Err(invalid.into()),
        };
        self.push(record, room)
    }

    /// Takes a record if there is room.
    pub(super) fn try_take(&self, mut record: Record) -> Result<Receipt, NotRecorded> {
        let room = match self.check(&record) {
            Ok(()) => self.capacity.try_room(size(&mut record)),
            Err(invalid) => Err(invalid.into()),
        };
        if room.as_ref().is_err_and(|error| *error == Error::RecorderFull) {
            self.metrics.refused.increment(1);
        }
        self.push(record, room)
    }

    /// Refuses what can't be written first.
    fn check(&self, record: &Record) -> Result<(), InvalidValue> {
        match self.part {
            Part::Usage => record.usage.check(),
            Part::Both | Part::Request => record.check(),
        }
    }

    fn push(&self, record: Record, room: Result<Room>) -> Result<Receipt, NotRecorded> {
        let record = Box::new(record);
        let room = match room {
            Ok(room) => room,
            Err(error) => return Err(NotRecorded { record, error }),
        };
        let (row, receipt) = Row::new(record, self.part, room, Arc::clone(&self.metrics));
        // A row that a closed queue doesn't take tells its receipt.
        self.feed.push(row);
        Ok(receipt)
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(usage) = self.0 {
            tracing::error!(%usage, "a record is lost: its caller stopped waiting for room");
        }
    }
}
