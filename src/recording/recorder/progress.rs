//! Progress of usages and of requests, when billing comes first.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

use crate::recording::recorder::part::Part;

/// Tells whether requests are stalled while usages are not.
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

    /// Whether no request was settled after `since`, while usages were or none is pending.
    pub(super) fn are_only_requests_stalled(&self, since: Instant) -> bool {
        let state = self.state();
        let are_usages_stalled = state.pending_usages > 0 && state.usage_progressed <= since;
        !are_usages_stalled && state.request_progressed <= since
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
    fn requests_are_stalled_alone_since_exactly_that_long() {
        let since = Instant::now();
        let (before, after) = (since - TICK, since + TICK);
        for (pending, usage, request, expected) in [
            // No usage is pending.
            (0, before, before, true),
            (0, before, since, true),
            (0, before, after, false),
            // Usages get on.
            (1, after, before, true),
            (1, after, since, true),
            (1, after, after, false),
            // Usages are stalled, too.
            (1, since, since, false),
            (1, before, before, false),
            (2, before, after, false),
        ] {
            let progress = progress(pending, usage, request);
            let is_stalled = progress.are_only_requests_stalled(since);
            assert_eq!(is_stalled, expected, "{pending} {:?} {:?}", usage - since, request - since);
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
