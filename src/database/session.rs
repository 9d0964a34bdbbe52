//! The session of a connection: what runs on it, and what its users leave behind.
//!
//! tokio-postgres keeps the transaction status of the protocol to itself. Diesel's instrumentation
//! shows each statement's start, end and text.

use diesel::connection::{Instrumentation, InstrumentationEvent, get_default_instrumentation};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::database::statement::{Effect, effect};
use crate::error::is_of_connection;

/// How long a statement goes unanswered before the server is suspected of silence, and how long
/// until it is suspected again.
pub(super) const OVERDUE_AFTER: Duration = Duration::from_secs(3);
const OVERDUE_INTERVAL: Duration = Duration::from_secs(10);

/// The state of a connection's session.
#[derive(Clone)]
pub(super) struct Session(Arc<Shared>);

struct Shared {
    /// The longest time that a statement goes unanswered.
    limit: Option<Duration>,
    state: Mutex<State>,
    /// The timer of [`silence`](Session::silence) is to be set, or the connection was dropped.
    changed: Notify,
}

/// Whether the next user may have the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// As it was made.
    Clean,
    /// To be reset.
    Altered,
    /// Inside a transaction, and to be closed.
    InTransaction,
    /// To be closed.
    Unusable,
    /// With a statement that may be running, which is to be cancelled.
    Busy,
}

/// Why a connection is closed from this side.
pub(super) enum Silence {
    /// A statement went unanswered for so long.
    Unanswered(Duration),
    /// The statement that began then isn't answered yet, and the server may be silent.
    Overdue(Instant),
    /// The connection was dropped during a statement.
    Abandoned,
}

#[derive(Debug)]
struct State {
    /// Statements that began and whose end nobody waited for.
    unfinished: usize,
    in_transaction: bool,
    is_altered: bool,
    is_irreversible: bool,
    /// Start of the statement that waits for an answer.
    unanswered_since: Option<Instant>,
    /// When the server is to be suspected of silence next.
    overdue_at: Option<Instant>,
    /// The last answer, or the start of the session.
    answered_at: Instant,
    /// A statement went unanswered for too long.
    was_silent: bool,
    /// Statements are seen: no user has set another instrumentation.
    is_watched: bool,
    has_timer: bool,
}

/// Notes the statements of a connection, and passes its events on.
struct Watcher {
    session: Session,
    next: Option<Box<dyn Instrumentation>>,
}

impl Session {
    /// A session on which a statement goes unanswered for at most `limit`.
    pub(super) fn new(limit: Option<Duration>) -> Self {
        let state = State {
            unfinished: 0,
            in_transaction: false,
            is_altered: false,
            is_irreversible: false,
            unanswered_since: None,
            overdue_at: None,
            answered_at: Instant::now(),
            was_silent: false,
            is_watched: true,
            has_timer: false,
        };
        Self(Arc::new(Shared { limit, state: Mutex::new(state), changed: Notify::new() }))
    }

    /// Watches the statements of `conn` from now on.
    pub(super) fn watch(&self, conn: &mut AsyncPgConnection) {
        let next = get_default_instrumentation();
        conn.set_instrumentation(Watcher { session: self.clone(), next });
    }

    /// The condition after everything that ran.
    pub(super) fn condition(&self) -> Condition {
        match *self.state() {
            State { was_silent: true, .. } => Condition::Unusable,
            State { unfinished: 1.., .. } => Condition::Busy,
            // Nothing is known any more.
            State { is_watched: false, .. } => Condition::Busy,
            State { in_transaction: true, .. } => Condition::InTransaction,
            State { is_irreversible: true, .. } => Condition::Unusable,
            State { is_altered: true, .. } => Condition::Altered,
            State { .. } => Condition::Clean,
        }
    }

    /// Notes that the session is as it was made.
    pub(super) fn mark_clean(&self) {
        let state = &mut *self.state();
        state.unfinished = 0;
        state.in_transaction = false;
        state.is_altered = false;
        state.is_irreversible = false;
    }

    /// When the server last answered a statement.
    pub(super) fn answered_at(&self) -> Instant {
        self.state().answered_at
    }

    /// Whether a statement went unanswered for too long.
    pub(super) fn was_silent(&self) -> bool {
        self.state().was_silent
    }

    /// Waits until a statement goes unanswered for too long, or the connection is dropped during a
    /// statement.
    pub(super) async fn silence(&self) -> Silence {
        let Shared { limit, changed, .. } = &*self.0;
        loop {
            let deadline = {
                let state = &mut *self.state();
                if !state.is_watched && state.unfinished > 0 {
                    return Silence::Abandoned;
                }
                let now = Instant::now();
                let deadline =
                    limit.and_then(|limit| Some((state.unanswered_since? + limit, limit)));
                if let Some((deadline, limit)) = deadline
                    && deadline <= now
                {
                    state.was_silent = true;
                    return Silence::Unanswered(limit);
                }
                if let (Some(since), Some(overdue_at)) = (state.unanswered_since, state.overdue_at)
                    && overdue_at <= now
                {
                    state.overdue_at = Some(now + OVERDUE_INTERVAL);
                    return Silence::Overdue(since);
                }
                let next = deadline.map(|(deadline, _)| deadline).into_iter();
                let next = next.chain(state.unanswered_since.and(state.overdue_at)).min();
                state.has_timer = next.is_some();
                next
            };
            let due = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = changed.notified() => {}
            }
        }
    }

    /// Notes that the server is silent, if the statement that began at `since` isn't answered yet.
    pub(super) fn mark_silent(&self, since: Instant) -> bool {
        let state = &mut *self.state();
        let is_unanswered = state.unanswered_since == Some(since);
        state.was_silent |= is_unanswered;
        is_unanswered
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_statement(&self) {
        let state = &mut *self.state();
        state.unfinished += 1;
        let now = Instant::now();
        state.unanswered_since = Some(now);
        state.overdue_at = Some(now + OVERDUE_AFTER);
        if !state.has_timer {
            state.has_timer = true;
            self.0.changed.notify_one();
        }
    }

    fn end_statement(&self, effect: Effect) {
        let state = &mut *self.state();
        state.unfinished = state.unfinished.saturating_sub(1);
        // Answers come in order, so those before it came too.
        state.unanswered_since = None;
        state.answered_at = Instant::now();
        state.note(effect);
    }
}

impl State {
    fn note(&mut self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::BeginsTransaction => self.in_transaction = true,
            Effect::EndsTransaction => self.in_transaction = false,
            Effect::MayAlterSession => self.is_altered = true,
            Effect::Irreversible => self.is_irreversible = true,
        }
    }
}

impl Instrumentation for Watcher {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match &event {
            InstrumentationEvent::StartQuery { .. } => self.session.begin_statement(),
            InstrumentationEvent::FinishQuery { query, error, .. } => {
                let effect = match error {
                    Some(error) if is_of_connection(error) => Effect::Irreversible,
                    _ => effect(&query.to_string()),
                };
                self.session.end_statement(effect);
            }
            _ => {}
        }
        if let Some(next) = &mut self.next {
            next.on_connection_event(event);
        }
    }
}

/// The connection is dropped, or a user sets another instrumentation.
impl Drop for Watcher {
    fn drop(&mut self) {
        self.session.state().is_watched = false;
        self.session.0.changed.notify_one();
    }
}
