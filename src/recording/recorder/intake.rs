//! Intake: validates a record, reserves capacity for it and queues it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

use crate::error::{Error, Result};
use crate::recording::recorder::capacity::{Capacity, Reservation};
use crate::recording::recorder::part::Part;
use crate::recording::recorder::pending_record::PendingRecord;
use crate::recording::recorder::receipt::{NotRecorded, Receipt};
use crate::recording::recorder::shedder::{CHECK_INTERVAL, Shedder};
use crate::recording::recorder::stage::Stage;
use crate::recording::types::Record;
use crate::values::{InvalidValue, UsageId};

/// Interval of checks while a record of a blocked version waits for capacity.
const BLOCKED_INTERVAL: Duration = Duration::from_millis(100);

/// Accepts records for the first stage.
pub(super) struct Intake {
    capacity: Arc<Capacity>,
    /// Present when billing comes first.
    shedder: Option<Shedder>,
    first_stage: Stage,
}

/// Logs the loss of a record when the future that waits for capacity is dropped.
struct CancellationGuard(Option<UsageId>);

impl Intake {
    pub(super) fn new(
        capacity: Arc<Capacity>,
        shedder: Option<Shedder>,
        first_stage: Stage,
    ) -> Self {
        Self { capacity, shedder, first_stage }
    }

    /// Accepts a record once there is capacity for it.
    pub(super) async fn accept(&self, mut record: Record) -> Result<Receipt, NotRecorded> {
        let size = PendingRecord::held_size(&mut record);
        let reserved = match self.check(&record) {
            Ok(()) => {
                let guard = CancellationGuard::new(record.usage.id);
                let reserved = self.reserve(&record, size).await;
                guard.disarm();
                reserved
            }
            Err(invalid) => Err(invalid.into()),
        };
        self.enqueue(record, size, reserved)
    }

    /// Accepts a record if there is capacity for it now.
    pub(super) fn try_accept(&self, mut record: Record) -> Result<Receipt, NotRecorded> {
        let size = PendingRecord::held_size(&mut record);
        let reserved = match self.check(&record) {
            Ok(()) => {
                if let Some(shedder) = &self.shedder {
                    shedder.shed_stalled_requests();
                }
                match self.must_leave_capacity(&record) {
                    true => Err(Error::RecorderFull),
                    false => self.capacity.try_reserve(size),
                }
            }
            Err(invalid) => Err(invalid.into()),
        };
        if reserved.as_ref().is_err_and(|error| *error == Error::RecorderFull) {
            self.first_stage.metrics.refused.increment(1);
        }
        self.enqueue(record, size, reserved)
    }

    /// Refuses further records.
    pub(super) fn close(&self) {
        self.capacity.close();
        self.first_stage.sender.close();
    }

    /// Checks the part that is written first.
    fn check(&self, record: &Record) -> Result<(), InvalidValue> {
        match self.first_stage.part {
            Part::Usage => record.usage.check(),
            Part::Both | Part::Request => record.check(),
        }
    }

    /// Whether the record would take capacity that is left to records that aren't blocked.
    fn must_leave_capacity(&self, record: &Record) -> bool {
        let version = record.request.variant_version_id;
        self.capacity.is_scarce() && self.first_stage.queues.retry_queue.is_blocked(version)
    }

    /// Reserves capacity; while it waits, stalled requests are shed.
    async fn reserve(&self, record: &Record, size: u32) -> Result<Reservation> {
        while self.must_leave_capacity(record) && !self.capacity.is_closed() {
            sleep(BLOCKED_INTERVAL).await;
        }
        let Some(shedder) = &self.shedder else { return self.capacity.reserve(size).await };
        let mut reserved = pin!(self.capacity.reserve(size));
        loop {
            shedder.shed_stalled_requests();
            if let Ok(reserved) = timeout(CHECK_INTERVAL, &mut reserved).await {
                return reserved;
            }
        }
    }

    fn enqueue(
        &self,
        record: Record,
        size: u32,
        reserved: Result<Reservation>,
    ) -> Result<Receipt, NotRecorded> {
        let record = Box::new(record);
        let reservation = match reserved {
            Ok(reservation) => reservation,
            Err(error) => return Err(NotRecorded { record, error }),
        };
        if let Some(shedder) = &self.shedder {
            shedder.usage_accepted();
        }
        let Stage { part, sender, metrics, .. } = &self.first_stage;
        let (pending, receipt) =
            PendingRecord::new(record, size, *part, reservation, Arc::clone(metrics));
        sender.send(pending);
        Ok(receipt)
    }
}

impl CancellationGuard {
    fn new(usage: UsageId) -> Self {
        Self(Some(usage))
    }

    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancellationGuard {
    fn drop(&mut self) {
        if let Some(usage) = self.0 {
            tracing::error!(
                %usage,
                "a record is lost: submit was cancelled while it waited for room; spawn it instead"
            );
        }
    }
}
