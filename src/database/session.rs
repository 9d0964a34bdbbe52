//! What the users of a connection leave behind on it.
//!
//! tokio-postgres keeps the transaction status of the protocol to itself. Diesel's instrumentation
//! shows each statement's start, end and text.

use diesel::connection::{Instrumentation, InstrumentationEvent, get_default_instrumentation};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::database::statement::{Effect, effect};

/// The state of a connection's session.
pub(super) struct Session(Arc<Mutex<State>>);

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

#[derive(Debug, Default)]
struct State {
    /// Statements that began and whose end nobody waited for.
    unfinished: usize,
    in_transaction: bool,
    is_altered: bool,
    is_irreversible: bool,
}

/// Notes the statements of a connection, and passes its events on.
struct Watcher {
    state: Arc<Mutex<State>>,
    next: Option<Box<dyn Instrumentation>>,
}

impl Session {
    /// Watches the session of `conn` from now on.
    pub(super) fn watch(conn: &mut AsyncPgConnection) -> Self {
        let state = Arc::default();
        let next = get_default_instrumentation();
        conn.set_instrumentation(Watcher { state: Arc::clone(&state), next });
        Self(state)
    }

    /// The condition after everything that ran.
    pub(super) fn condition(&self) -> Condition {
        // A user who sets another instrumentation drops ours, and nothing is known any more.
        let is_watched = Arc::strong_count(&self.0) == 2;
        match *lock(&self.0) {
            State { unfinished: 1.., .. } => Condition::Busy,
            _ if !is_watched => Condition::Busy,
            State { in_transaction: true, .. } => Condition::InTransaction,
            State { is_irreversible: true, .. } => Condition::Unusable,
            State { is_altered: true, .. } => Condition::Altered,
            State { .. } => Condition::Clean,
        }
    }

    /// Notes that the session is as it was made.
    pub(super) fn mark_clean(&self) {
        *lock(&self.0) = State::default();
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
            InstrumentationEvent::StartQuery { .. } => lock(&self.state).unfinished += 1,
            InstrumentationEvent::FinishQuery { query, .. } => {
                let effect = effect(&query.to_string());
                let state = &mut *lock(&self.state);
                state.unfinished = state.unfinished.saturating_sub(1);
                state.note(effect);
            }
            _ => {}
        }
        if let Some(next) = &mut self.next {
            next.on_connection_event(event);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
