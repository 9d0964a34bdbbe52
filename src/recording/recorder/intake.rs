//! Taking records, when and if there is room.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

use crate::error::{Error, Result};
use crate::recording::recorder::capacity::{Capacity, Room};
use crate::recording::recorder::metrics::Metrics;
use crate::recording::recorder::pending::{NotRecorded, Part, Receipt, Row, size};
use crate::recording::recorder::queue::{Feed, Queue};
use crate::recording::types::Record;
use crate::values::{InvalidValue, UsageId};

/// How long requests may not get on when room is scarce: longer than it takes to find that they are blocked.
const PATIENCE: Duration = Duration::from_secs(4);

/// Where records come in.
pub(super) struct Inlet {
    capacity: Arc<Capacity>,
    feed: Arc<Feed>,
    /// What is to be written of them first.
    part: Part,
    /// Where requests wait of usages that are written, where billing comes first.
    requests: Vec<Arc<Queue>>,
    metrics: Arc<Metrics>,
}

/// Says of a record whose caller doesn't wait for room any more that it is lost.
struct Abandoned(Option<UsageId>);

impl Inlet {
    pub(super) fn new(
        capacity: Arc<Capacity>,
        feed: Arc<Feed>,
        part: Part,
        requests: Vec<Arc<Queue>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { capacity, feed, part, requests, metrics }
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
                let room = self.room(size(&mut record)).await;
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
            Ok(()) => {
                self.make_way();
                self.capacity.try_room(size(&mut record))
            }
            Err(invalid) => Err(invalid.into()),
        };
        if room.as_ref().is_err_and(|error| *error == Error::RecorderFull) {
            self.metrics.refused.increment(1);
        }
        self.push(record, room)
    }

    async fn room(&self, size: u32) -> Result<Room> {
        if self.requests.is_empty() {
            return self.capacity.room(size).await;
        }
        let mut room = pin!(self.capacity.room(size));
        loop {
            self.make_way();
            if let Ok(room) = timeout(PATIENCE / 4, &mut room).await {
                return room;
            }
        }
    }

    /// Gives up the requests that wait and don't get on, when usages need their room.
    fn make_way(&self) {
        if self.requests.is_empty() {
            return;
        }
        let Some(since) = Instant::now().checked_sub(PATIENCE) else { return };
        let is_old = |queue: &Arc<Queue>| queue.has_older(since);
        if self.capacity.is_taken_by_requests(since) && self.requests.iter().any(is_old) {
            let mut rows: Vec<_> =
                self.requests.iter().flat_map(|queue| queue.take_all()).collect();
            tracing::error!(
                rows = rows.len(),
                "requests aren't attributed: usages need their room"
            );
            for row in &mut rows {
                row.failed(Error::RecorderFull);
            }
        }
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
        if self.part == Part::Usage {
            self.capacity.bill();
        }
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
