//! Progress of usages and of requests, when billing comes first.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

use crate::recording::recorder::part::Part;

/// Tells whether usages are stalled, and whether requests are.
pub(super) struct Progress(Mutex<State>);

struct State {
    /// Accepted records whose usage isn't settled.
    pending_usages: usize,
    /// When a usage was last settled.
    usage_progressed: Instant,
    /// When a request was last settled.
    request_progressed: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self(Mutex::new(State {
            pending_usages: 0,
            usage_progressed: now,
            request_progressed: now,
        }))
    }

    /// A record was accepted whose usage is to be written first.
    pub(super) fn usage_accepted(&self) {
        self.state().pending_usages += 1;
    }

    /// `part` of `records` records was settled: written or failed.
    pub(super) fn progressed(&self, part: Part, records: usize) {
        if records == 0 || part == Part::Both {
            return;
        }
        let (mut state, now) = (self.state(), Instant::now());
        if part == Part::Usage {
            state.pending_usages = state.pending_usages.saturating_sub(records);
            state.usage_progressed = now;
        } else {
            state.request_progressed = now;
        }
    }

    /// Whether usages are pending, and none was settled after `since`.
    pub(super) fn are_usages_stalled(&self, since: Instant) -> bool {
        let state = self.state();
        state.pending_usages > 0 && state.usage_progressed <= since
    }

    /// Whether no request was settled after `since`.
    pub(super) fn are_requests_stalled(&self, since: Instant) -> bool {
        self.state().request_progressed <= since
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const TICK: Duration = Duration::from_nanos(1);

    /// Progress with `pending` usages, a usage and a request settled at these instants.
    fn progress(
        pending: usize,
        usage_progressed: Instant,
        request_progressed: Instant,
    ) -> Progress {
        Progress(Mutex::new(State {
            pending_usages: pending,
            usage_progressed,
            request_progressed,
        }))
    }

    #[test]
    fn a_part_is_stalled_since_exactly_that_long() {
        let since = Instant::now();
        let (before, after) = (since - TICK, since + TICK);
        for (settled, expected) in [(before, true), (since, true), (after, false)] {
            assert_eq!(progress(1, settled, after).are_usages_stalled(since), expected);
            assert_eq!(progress(2, settled, before).are_usages_stalled(since), expected);
            assert_eq!(progress(1, after, settled).are_requests_stalled(since), expected);
            assert_eq!(progress(0, before, settled).are_requests_stalled(since), expected);
            // No usage is pending.
            assert!(!progress(0, settled, before).are_usages_stalled(since));
        }
    }

    #[test]
    fn each_part_progresses_by_itself() {
        let start = Instant::now();
        let state = |progress: &Progress| {
            let state = progress.state();
            (state.pending_usages, state.usage_progressed > start, state.request_progressed > start)
        };
        let progress = progress(0, start, start);
        progress.usage_accepted();
        progress.usage_accepted();
        progress.usage_accepted();
        for (part, records) in [(Part::Usage, 0), (Part::Request, 0), (Part::Both, 2)] {
            progress.progressed(part, records);
            assert_eq!(state(&progress), (3, false, false), "{part:?}");
        }
        progress.progressed(Part::Request, 1);
        assert_eq!(state(&progress), (3, false, true));
        progress.progressed(Part::Usage, 2);
        assert_eq!(state(&progress), (1, true, true));
        // A usage whose record wasn't counted makes no others pending.
        progress.progressed(Part::Usage, 2);
        assert_eq!(state(&progress), (0, true, true));
    }
}
