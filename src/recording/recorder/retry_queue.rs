//! Retry queue: records that couldn't be written with their batch, grouped by what they may wait
//! for.
//!
//! A request's foreign key waits while another session has its version locked, and so do all
//! requests of that version. A batch with one such record is blocked as a whole. So its records are
//! set aside, in a group for each version. One group's batch at a time is attempted, over a
//! connection whose lock timeout is short.
//!
//! | Event                            | Version    | Group's next batch | It is due             |
//! |----------------------------------|------------|--------------------|-----------------------|
//! | a batch with it blocks           | is blocked | one record         | now                   |
//! | later records of it are diverted | as before  | as before          | now, until two failed |
//! | the group's batch: some recorded | is open    | twice as many      | now                   |
//! | the group's batch: some settled  | as before  | as before          | now                   |
//! | the group's batch: none settled  | as before  | one record         | after a backoff       |
//!
//! Later records of a blocked version don't delay a batch: they are diverted to its group. A second
//! record is attempted before the first backoff, since one may be blocked by its own usage id.
//! A record that failed by itself is attempted alone from then on, after all others.

use backon::ExponentialBackoff;
use std::collections::{HashMap, HashSet, VecDeque};
use std::mem::take;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::database::backoff::{MAX_DELAY, MIN_DELAY, backoff};
use crate::recording::recorder::batch::take_batch;
use crate::recording::recorder::pending_record::PendingRecord;
use crate::values::VersionId;

/// Failed attempts of a group, each with another record, before its version counts as locked.
const MIN_FAILURES: u32 = 2;

/// Records to retry, in groups by version. One writer takes its batches.
pub(super) struct RetryQueue {
    state: Mutex<State>,
    changed: Notify,
    max_batch: usize,
    retry_for: Duration,
}

/// Sets records aside; dropping it closes the queue.
pub(super) struct RetrySender(Arc<RetryQueue>);

#[derive(Default)]
struct State {
    groups: HashMap<VersionId, Group>,
    /// The batch that is being written.
    current: Option<Current>,
    is_closed: bool,
}

/// A batch that is being written.
#[derive(Clone, Copy)]
struct Current {
    version: VersionId,
    records: usize,
}

/// Records of one version. It is removed when it is empty.
struct Group {
    /// Records that didn't fail by themselves.
    untried: VecDeque<PendingRecord>,
    /// Records that failed by themselves.
    tried: VecDeque<PendingRecord>,
    /// Whether later records of the version are diverted to this group.
    is_blocked: bool,
    max_batch: usize,
    /// Attempts since a record was settled.
    failures: u32,
    delays: ExponentialBackoff,
    due: Instant,
}

/// How an attempt to write a group's batch ended, apart from the records that remain.
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    /// Whether some of its records were recorded.
    pub(super) has_recorded: bool,
    /// Whether the rest may be settled by another attempt at once.
    pub(super) is_decisive: bool,
}

/// What the writer does next.
enum Next {
    Write(Vec<PendingRecord>),
    /// Waits for more records, until `due` if there is one.
    Wait {
        due: Option<Instant>,
    },
    /// Ends: the queue is closed and empty.
    End,
}

impl RetryQueue {
    pub(super) fn new(max_batch: usize, retry_for: Duration) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), max_batch, retry_for }
    }

    /// Takes a batch of the group that is due first, once it is.
    ///
    /// Returns `None` once the queue is closed and empty. [`put_back`](Self::put_back) ends the
    /// attempt.
    pub(super) async fn next_batch(&self) -> Option<Vec<PendingRecord>> {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registers before looking, so that no change is missed.
            changed.as_mut().enable();
            let due = match self.take_batch() {
                Next::Write(records) => return Some(records),
                Next::Wait { due } => due,
                Next::End => return None,
            };
            match due {
                Some(due) => drop(timeout_at(due, changed).await),
                None => changed.await,
            }
        }
    }

    fn take_batch(&self) -> Next {
        let mut state = self.state();
        state.end_attempt();
        let Some((version, group)) = state.groups.iter_mut().min_by_key(|(_, group)| group.due)
        else {
            return if state.is_closed { Next::End } else { Next::Wait { due: None } };
        };
        if group.due > Instant::now() {
            return Next::Wait { due: Some(group.due) };
        }
        let records = match group.untried.is_empty() {
            false => take_batch(&mut group.untried, group.max_batch),
            true => take_batch(&mut group.tried, 1),
        };
        let current = Current { version: *version, records: records.len() };
        state.current = Some(current);
        Next::Write(records)
    }

    /// Ends the attempt of the batch that was taken last; puts back those of its records that
    /// remain.
    pub(super) fn put_back(&self, records: &mut Vec<PendingRecord>, attempt: Attempt) {
        let mut state = self.state();
        let Some(current) = state.current else { return };
        let group = state.groups.entry(current.version).or_insert_with(Group::new);
        let has_settled = records.len() < current.records;
        if attempt.has_recorded {
            group.is_blocked = false;
            group.max_batch = group.max_batch.saturating_mul(2).min(self.max_batch);
        }
        if has_settled || current.records == 1 {
            group.tried.extend(records.drain(..));
        } else {
            group.untried.extend(records.drain(..));
        }
        if has_settled || attempt.is_decisive {
            group.settled();
        } else {
            group.failed(self.retry_for);
        }
        state.end_attempt();
    }

    /// Takes the records accepted at `instant` or earlier.
    pub(super) fn take_accepted_by(&self, instant: Instant) -> Vec<PendingRecord> {
        let mut state = self.state();
        let taken = state.groups.values_mut().flat_map(|group| group.take_accepted_by(instant));
        let taken = taken.collect();
        state.remove_empty();
        taken
    }

    /// Takes the records of blocked versions accepted at `instant` or earlier.
    pub(super) fn take_stalled(&self, instant: Instant) -> Vec<PendingRecord> {
        let mut state = self.state();
        let blocked = state.groups.values_mut().filter(|group| group.is_blocked);
        let taken = blocked.flat_map(|group| group.take_accepted_by(instant)).collect();
        state.remove_empty();
        taken
    }

    /// Takes the records accepted at `instant` or earlier of the group whose batch is being
    /// written, if its last attempt failed, too.
    pub(super) fn take_blocked_accepted_by(&self, instant: Instant) -> Vec<PendingRecord> {
        let mut state = self.state();
        let group = state.current.and_then(|current| state.groups.get_mut(&current.version));
        let group = group.filter(|group| group.failures + 1 >= MIN_FAILURES);
        group.map(|group| group.take_accepted_by(instant)).unwrap_or_default()
    }

    /// Whether later records of `version` are diverted to this queue.
    pub(super) fn is_blocked(&self, version: VersionId) -> bool {
        self.state().groups.get(&version).is_some_and(|group| group.is_blocked)
    }

    /// Whether it holds a record accepted at `instant` or earlier.
    pub(super) fn has_accepted_by(&self, instant: Instant) -> bool {
        self.state().groups.values().any(|group| group.has_accepted_by(instant))
    }

    /// Takes all records.
    pub(super) fn take_all(&self) -> Vec<PendingRecord> {
        let groups = take(&mut self.state().groups);
        groups
            .into_values()
            .flat_map(|group| group.untried.into_iter().chain(group.tried))
            .collect()
    }

    /// Refuses further records, and wakes the writer.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }

    fn push(&self, records: impl Iterator<Item = PendingRecord>, change: impl Fn(&mut Group)) {
        let records: Vec<_> = records.collect();
        let mut state = self.state();
        if state.is_closed {
            // Dropping them answers their receipts, which runs the host's code.
            drop(state);
            drop(records);
            return;
        }
        for record in records {
            let group = state.group(&record);
            change(group);
            group.push(record);
        }
        drop(state);
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The group of a record's version.
    fn group(&mut self, record: &PendingRecord) -> &mut Group {
        self.groups.entry(version(record)).or_insert_with(Group::new)
    }

    /// Ends the attempt of the batch that was taken last.
    fn end_attempt(&mut self) {
        if self.current.take().is_some() {
            self.remove_empty();
        }
    }

    /// Removes empty groups, except the one whose batch is being written.
    fn remove_empty(&mut self) {
        let current = self.current.map(|current| current.version);
        self.groups.retain(|version, group| !group.is_empty() || Some(*version) == current);
    }
}

impl Group {
    fn new() -> Self {
        Self {
            untried: VecDeque::new(),
            tried: VecDeque::new(),
            is_blocked: false,
            max_batch: 1,
            failures: 0,
            delays: backoff(),
            due: Instant::now(),
        }
    }

    /// A batch with the version was blocked: it counts as locked until a record is recorded.
    fn block(&mut self) {
        if !self.is_blocked {
            self.is_blocked = true;
            self.max_batch = 1;
            self.settled();
        }
    }

    fn push(&mut self, record: PendingRecord) {
        self.untried.push_back(record);
        if self.failures < MIN_FAILURES {
            self.due = Instant::now();
        }
    }

    /// Records were settled, or soon may be.
    fn settled(&mut self) {
        self.failures = 0;
        self.delays = backoff();
        self.due = Instant::now();
    }

    /// No record was settled. A last attempt is due at the deadline.
    fn failed(&mut self, retry_for: Duration) {
        self.max_batch = 1;
        self.failures += 1;
        let now = Instant::now();
        if self.failures < MIN_FAILURES && !self.untried.is_empty() {
            self.due = now;
            return;
        }
        let delay = self.delays.next().unwrap_or(MAX_DELAY);
        let oldest = self.records().map(|record| record.accepted).min();
        let until_deadline = retry_for.saturating_sub(oldest.unwrap_or(now).elapsed());
        self.due = now + delay.min(until_deadline.max(MIN_DELAY));
    }

    fn take_accepted_by(&mut self, instant: Instant) -> Vec<PendingRecord> {
        let mut taken = Vec::new();
        for records in [&mut self.untried, &mut self.tried] {
            let (older, younger): (Vec<_>, _) =
                take(records).into_iter().partition(|record| record.accepted <= instant);
            taken.extend(older);
            *records = younger.into();
        }
        taken
    }

    fn has_accepted_by(&self, instant: Instant) -> bool {
        self.records().any(|record| record.accepted <= instant)
    }

    fn records(&self) -> impl Iterator<Item = &PendingRecord> {
        self.untried.iter().chain(&self.tried)
    }

    fn is_empty(&self) -> bool {
        self.untried.is_empty() && self.tried.is_empty()
    }
}

impl RetrySender {
    pub(super) fn new(queue: Arc<RetryQueue>) -> Self {
        Self(queue)
    }

    /// Sets aside the rest of a batch that was blocked, and blocks its versions. A closed queue
    /// drops it, which answers the receipts.
    pub(super) fn set_aside(&self, records: &mut Vec<PendingRecord>) {
        self.0.push(records.drain(..), Group::block);
    }

    /// Sets aside records whose version is blocked.
    pub(super) fn divert(&self, records: &mut Vec<PendingRecord>) {
        let state = self.0.state();
        let blocked: HashSet<VersionId> =
            state.groups.iter().filter(|(_, group)| group.is_blocked).map(|(id, _)| *id).collect();
        drop(state);
        if !blocked.is_empty() {
            let diverted = records.extract_if(.., |record| blocked.contains(&version(record)));
            self.0.push(diverted, |_| ());
        }
    }
}

impl Drop for RetrySender {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The version that a record may wait for.
fn version(record: &PendingRecord) -> VersionId {
    record.record().request.variant_version_id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::recorder::capacity::Capacity;
    use crate::recording::recorder::options::RecorderOptions;
    use crate::recording::recorder::samples::sample;
    use crate::registry::seed;
    use tokio::time::advance;

    const RETRY_FOR: Duration = Duration::from_secs(600);

    /// None of the batch's records was settled.
    const FAILED: Attempt = Attempt { has_recorded: false, is_decisive: false };

    /// Some of the batch's records were recorded.
    const RECORDED: Attempt = Attempt { has_recorded: true, is_decisive: false };

    struct Fixture {
        queue: Arc<RetryQueue>,
        sender: RetrySender,
        capacity: Capacity,
    }

    impl Fixture {
        fn new() -> Self {
            let queue = Arc::new(RetryQueue::new(8, RETRY_FOR));
            let sender = RetrySender::new(Arc::clone(&queue));
            Self { queue, sender, capacity: Capacity::new(&RecorderOptions::default()) }
        }

        fn records(&self, of_version: u128, many: usize) -> Vec<PendingRecord> {
            let record = || {
                let version = seed::version(of_version);
                sample(&self.capacity, version, 1, Duration::ZERO).0
            };
            std::iter::repeat_with(record).take(many).collect()
        }

        fn set_aside(&self, of_version: u128, many: usize) {
            self.sender.set_aside(&mut self.records(of_version, many));
        }

        /// How many records of a batch aren't diverted.
        fn undiverted(&self, of_version: u128, many: usize) -> usize {
            let mut records = self.records(of_version, many);
            self.sender.divert(&mut records);
            records.len()
        }

        /// The next batch, if one is due.
        fn batch(&self) -> Option<Vec<PendingRecord>> {
            match self.queue.take_batch() {
                Next::Write(records) => Some(records),
                _ => None,
            }
        }

        /// Takes the next batch, which has `many` records, and keeps none of them.
        fn record(&self, many: usize) {
            assert_eq!(self.batch().unwrap().len(), many);
            self.queue.put_back(&mut Vec::new(), RECORDED);
        }

        /// Takes the next batch, which has `many` records, and keeps all of them.
        fn fail(&self, many: usize) {
            let mut records = self.batch().unwrap();
            assert_eq!(records.len(), many);
            self.queue.put_back(&mut records, FAILED);
            assert_eq!(records.len(), 0);
        }

        fn len(&self) -> usize {
            self.capacity.held().records
        }
    }

    #[tokio::test(start_paused = true)]
    async fn batches_of_a_version_double_while_they_are_recorded() {
        let fixture = Fixture::new();
        fixture.set_aside(1, 30);
        for many in [1, 2, 4, 8, 8, 7] {
            fixture.record(many);
        }
        assert!(fixture.batch().is_none());
        assert_eq!(fixture.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_is_attempted_with_two_records_before_it_waits() {
        let fixture = Fixture::new();
        fixture.set_aside(1, 3);
        fixture.fail(1);
        fixture.fail(1);
        assert!(fixture.batch().is_none());
        advance(2 * MAX_DELAY).await;
        fixture.fail(1);
        assert!(fixture.batch().is_none());
        advance(2 * MAX_DELAY).await;
        // All were attempted alone; the first is again.
        fixture.record(1);
        // It isn't the version that the others wait for.
        fixture.record(1);
        fixture.record(1);
        assert_eq!(fixture.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn later_records_are_diverted_until_one_is_recorded() {
        let fixture = Fixture::new();
        assert_eq!(fixture.undiverted(1, 2), 2);
        fixture.set_aside(1, 1);
        assert_eq!((fixture.undiverted(1, 2), fixture.undiverted(2, 2)), (0, 2));
        fixture.fail(1);
        assert_eq!(fixture.undiverted(1, 2), 0);
        fixture.record(1);
        assert_eq!(fixture.undiverted(1, 2), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_that_was_stored_already_tells_nothing_of_its_version() {
        let fixture = Fixture::new();
        fixture.set_aside(1, 2);
        drop(fixture.batch());
        fixture.queue.put_back(&mut Vec::new(), FAILED);
        assert_eq!(fixture.undiverted(1, 1), 0);
        fixture.record(1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_record_is_attempted_when_it_comes() {
        let fixture = Fixture::new();
        fixture.set_aside(1, 1);
        fixture.fail(1);
        assert!(fixture.batch().is_none());
        assert_eq!(fixture.undiverted(1, 1), 0);
        fixture.fail(1);
        // A third waits like the others.
        assert_eq!(fixture.undiverted(1, 1), 0);
        assert!(fixture.batch().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_that_waits_delays_no_other() {
        let fixture = Fixture::new();
        fixture.set_aside(1, 2);
        fixture.fail(1);
        fixture.fail(1);
        fixture.set_aside(2, 1);
        fixture.record(1);
        assert!(fixture.batch().is_none());
        assert_eq!(fixture.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn records_that_failed_by_themselves_are_attempted_alone_and_last() {
        let fixture = Fixture::new();
        fixture.set_aside(1, 9);
        fixture.record(1);
        fixture.record(2);
        // Half of them is recorded, and the others are found.
        let mut batch = fixture.batch().unwrap();
        drop(batch.split_off(2));
        fixture.queue.put_back(&mut batch, RECORDED);
        fixture.record(2);
        fixture.record(1);
        fixture.record(1);
        assert_eq!(fixture.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_last_attempt_is_due_at_the_deadline() {
        let fixture = Fixture::new();
        fixture.set_aside(1, 2);
        for _ in 0..20 {
            advance(2 * MAX_DELAY).await;
            fixture.fail(1);
        }
        advance(RETRY_FOR - 20 * 2 * MAX_DELAY - MIN_DELAY).await;
        fixture.fail(1);
        advance(MIN_DELAY).await;
        let batch = fixture.batch().unwrap();
        let by_now = fixture.queue.take_blocked_accepted_by(Instant::now() - RETRY_FOR);
        assert_eq!((batch.len(), by_now.len()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn only_records_of_blocked_versions_are_stalled() {
        let fixture = Fixture::new();
        fixture.set_aside(1, 3);
        fixture.set_aside(2, 3);
        // The first is open then.
        fixture.record(1);
        let now = Instant::now();
        advance(MIN_DELAY).await;
        fixture.set_aside(3, 1);
        assert_eq!(fixture.queue.take_stalled(now).len(), 3);
        assert_eq!(fixture.queue.take_stalled(now).len(), 0);
        assert_eq!(fixture.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_stays_blocked_while_its_last_record_is_written() {
        let fixture = Fixture::new();
        fixture.set_aside(1, 2);
        let mut batch = fixture.batch().unwrap();
        assert_eq!(fixture.queue.take_accepted_by(Instant::now()).len(), 1);
        assert_eq!(fixture.undiverted(1, 1), 0);
        fixture.queue.put_back(&mut batch, FAILED);
        assert_eq!(fixture.undiverted(1, 1), 0);
        fixture.record(1);
        assert_eq!(fixture.undiverted(1, 1), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_queue_ends_once_it_is_empty_and_drops_what_comes() {
        let Fixture { queue, sender, capacity } = Fixture::new();
        let version = seed::version(1);
        let record = || sample(&capacity, version, 1, Duration::ZERO).0;
        sender.set_aside(&mut vec![record()]);
        queue.close();
        sender.set_aside(&mut vec![record()]);
        assert_eq!(capacity.held().records, 1);
        assert_eq!(queue.next_batch().await.unwrap().len(), 1);
        assert!(queue.next_batch().await.is_none());
    }
}
