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
