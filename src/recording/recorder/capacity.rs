//! Capacity of a recorder, in records and in bytes.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::error::{Error, Result};
use crate::recording::recorder::metrics::HeldGauges;
use crate::recording::recorder::options::RecorderOptions;

/// Bounds what a recorder holds. A record holds its [`Reservation`] until it is settled.
pub(super) struct Capacity {
    records: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max: Held,
    gauges: HeldGauges,
}

/// An amount of records and of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// Capacity taken by one record; dropping it returns the capacity.
#[expect(dead_code, reason = "held for its drop")]
pub(super) struct Reservation {
    record: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

impl Capacity {
    pub(super) fn new(options: &RecorderOptions) -> Self {
        // A larger maximum than a semaphore's is no bound.
        let max = Held {
            records: options.max_records.min(Semaphore::MAX_PERMITS),
            bytes: options.max_bytes.min(Semaphore::MAX_PERMITS),
        };
        Self {
            records: Arc::new(Semaphore::new(max.records)),
            bytes: Arc::new(Semaphore::new(max.bytes)),
            max,
            gauges: HeldGauges::new(),
        }
    }

    /// Reserves capacity for a record of `size` bytes, and waits until there is some.
    pub(super) async fn reserve(&self, size: u32) -> Result<Reservation> {
        let record = Arc::clone(&self.records).acquire_owned().await;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(self.clamp(size)).await;
        match (record, bytes) {
            (Ok(record), Ok(bytes)) => Ok(Reservation { record, bytes }),
            _ => Err(Error::RecorderClosed),
        }
    }

    /// Reserves capacity for a record of `size` bytes, or fails at once.
    pub(super) fn try_reserve(&self, size: u32) -> Result<Reservation> {
        let refused = |error| match error {
            TryAcquireError::NoPermits => Error::RecorderFull,
            TryAcquireError::Closed => Error::RecorderClosed,
        };
        let record = Arc::clone(&self.records).try_acquire_owned().map_err(refused)?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.clamp(size));
        Ok(Reservation { record, bytes: bytes.map_err(refused)? })
    }

    /// A record larger than the maximum takes all of it, or it would wait forever.
    fn clamp(&self, size: u32) -> u32 {
        size.min(u32::try_from(self.max.bytes).unwrap_or(u32::MAX))
    }

    /// Refuses further reservations, and fails those that wait.
    pub(super) fn close(&self) {
        self.records.close();
        self.bytes.close();
    }

    /// Whether further reservations are refused.
    pub(super) fn is_closed(&self) -> bool {
        self.records.is_closed()
    }

    /// Amount reserved now.
    pub(super) fn held(&self) -> Held {
        Held {
            records: self.max.records - self.records.available_permits(),
            bytes: self.max.bytes - self.bytes.available_permits(),
        }
    }

    /// Whether more than half of the records or of the bytes are reserved.
    pub(super) fn is_scarce(&self) -> bool {
        let held = self.held();
        held.records > self.max.records / 2 || held.bytes > self.max.bytes / 2
    }

    /// Sets the gauges to what is held now.
    pub(super) fn update_gauges(&self) {
        let held = self.held();
        self.gauges.records.set(held.records as f64);
        self.gauges.bytes.set(held.bytes as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a recorder of `max` is scarce with `records` that take `bytes` in all.
    fn is_scarce(max: Held, records: usize, bytes: usize) -> bool {
        let options = RecorderOptions::default().max_records(max.records).max_bytes(max.bytes);
        let capacity = Capacity::new(&options);
        let mut sizes = vec![0; records];
        sizes[0] = u32::try_from(bytes).unwrap();
        let reserved: Vec<_> =
            sizes.into_iter().map(|size| capacity.try_reserve(size).unwrap()).collect();
        assert_eq!(capacity.held(), Held { records, bytes });
        let is_scarce = capacity.is_scarce();
        drop(reserved);
        assert_eq!(capacity.held(), Held { records: 0, bytes: 0 });
        is_scarce
    }

    #[test]
    fn capacity_is_scarce_above_half_of_the_records_or_of_the_bytes() {
        let max = Held { records: 10, bytes: 1_000 };
        assert!(!is_scarce(max, 5, 500));
        assert!(is_scarce(max, 6, 500));
        assert!(is_scarce(max, 5, 501));
        assert!(is_scarce(max, 6, 501));
        assert!(!is_scarce(max, 1, 0));
        assert!(is_scarce(max, 10, 0));
        assert!(is_scarce(max, 1, 1_000));
    }

    #[test]
    fn a_record_larger_than_the_maximum_takes_all_of_it() {
        let capacity = Capacity::new(&RecorderOptions::default().max_bytes(1_000));
        let reserved = capacity.try_reserve(5_000).unwrap();
        assert_eq!(capacity.held(), Held { records: 1, bytes: 1_000 });
        assert!(capacity.try_reserve(1).is_err());
        drop(reserved);
        assert!(capacity.try_reserve(1_000).is_ok());
    }
}
