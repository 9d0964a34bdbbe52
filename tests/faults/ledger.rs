//! The ledger: what every caller was told of its record, compared with the database.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use model_experiments::recording::{NewRequest, Outcome, Record, Request, Usage};
use model_experiments::schema::{microdollar_usage as usage, model_experiment_request as request};
use model_experiments::values::{AllocationSubject, UsageId, VersionId};
use model_experiments::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use crate::report::Counts;

/// The submitted records of a database, in the order of their submission.
pub struct Ledger {
    /// Whether usages are written before their requests.
    billing_first: bool,
    entries: Mutex<Vec<Entry>>,
}

/// A submitted record.
#[derive(Clone)]
struct Entry {
    content: Content,
    /// Whether its recorder retries for longer than any fault lasts.
    never_gives_up: bool,
    answer: Answer,
}

/// The content of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    pub usage: Usage,
    pub version: VersionId,
    pub client_request_id: String,
}

/// What the caller was told.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The recorder has the record, but nobody awaits its receipt.
    NotAwaited,
    /// The recorder answered.
    Received(Result<Outcome>),
    /// The recorder never had the record.
    NotAccepted,
}

/// What is stored under an id.
struct Stored {
    usage: Usage,
    request: Option<Request>,
}

impl Content {
    /// New and acceptable content that `version` served.
    pub fn new(version: VersionId) -> Self {
        let usage = Usage { cost: 1, input_tokens: 2, ..Usage::new("user-1") };
        let client_request_id = usage.id.to_string();
        Self { usage, version, client_request_id }
    }

    /// Whether the recorder accepts it.
    pub fn is_valid(&self) -> bool {
        let is_storable = |text: &String| !text.contains('\0');
        self.usage.model.as_ref().is_none_or(is_storable) && self.usage.kilo_user_id.len() <= 2_048
    }

    /// Whether the database accepts it: the version exists and the host's rule holds.
    fn is_acceptable(&self) -> bool {
        self.is_valid() && !self.version.as_uuid().is_nil() && self.usage.cost >= 0
    }

    pub fn record(&self) -> Record {
        let request = NewRequest::new(self.version, AllocationSubject::User)
            .client_request_id(&self.client_request_id);
        Record::new(self.usage.clone(), request)
    }

    fn is_usage_of(&self, stored: &Stored) -> bool {
        stored.usage == self.usage
    }

    fn is_request_of(&self, stored: &Stored) -> bool {
        stored.request.as_ref().is_some_and(|request| {
            request.variant_version_id == self.version
                && request.client_request_id.as_ref() == Some(&self.client_request_id)
                && request.created_at == self.usage.created_at
        })
    }

    fn is_all_of(&self, stored: &Stored) -> bool {
        self.is_usage_of(stored) && self.is_request_of(stored)
    }
}

impl Answer {
    /// Whether the usage may be stored under this answer.
    fn allows_usage(&self) -> bool {
        match self {
            Self::Received(Err(error)) => {
                is_inconclusive(error) || matches!(error, Error::NotAttributed { .. })
            }
            Self::NotAwaited | Self::Received(Ok(_)) => true,
            Self::NotAccepted => false,
        }
    }

    /// Whether the request may be stored under this answer.
    fn allows_request(&self) -> bool {
        match self {
            Self::Received(Err(Error::NotAttributed { reason, .. })) => is_inconclusive(reason),
            answer => answer.allows_usage(),
        }
    }

    fn is_recorded_differently(&self) -> bool {
        let Self::Received(Err(error)) = self else { return false };
        let error = match error {
            Error::NotAttributed { reason, .. } => reason,
            error => error,
        };
        matches!(error, Error::RecordedDifferently { .. })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::NotAwaited => "not awaited",
            Self::NotAccepted => "not accepted",
            Self::Received(Ok(Outcome::Recorded)) => "recorded",
            Self::Received(Ok(Outcome::AlreadyRecorded)) => "already recorded",
            Self::Received(Err(Error::NotAttributed { .. })) => "not attributed",
            Self::Received(Err(Error::RecordedDifferently { .. })) => "recorded differently",
            Self::Received(Err(error)) if is_inconclusive(error) => "inconclusive",
            Self::Received(Err(_)) => "refused",
        }
    }
}

/// Whether the error leaves it open if the rows were written.
fn is_inconclusive(error: &Error) -> bool {
    error.is_retryable() || matches!(error, Error::RecorderClosed)
}

impl Ledger {
    pub fn new(billing_first: bool) -> Self {
        Self { billing_first, entries: Mutex::default() }
    }

    /// Enters a record before it is submitted, and returns its number.
    pub fn submit(&self, content: Content, never_gives_up: bool) -> usize {
        let mut entries = self.entries();
        entries.push(Entry { content, never_gives_up, answer: Answer::NotAwaited });
        entries.len() - 1
    }

    pub fn set_answer(&self, number: usize, answer: Answer) {
        self.entries()[number].answer = answer;
    }

    /// The content of a recent record, counted back from the newest.
    pub fn recent(&self, back: usize) -> Option<Content> {
        let entries = self.entries();
        let at = entries.len().checked_sub(back + 1)?;
        Some(entries[at].content.clone())
    }

    /// How often each answer was given.
    pub fn count_answers(&self) -> Counts {
        let mut counts = Counts::new();
        for entry in &*self.entries() {
            *counts.entry(entry.answer.name()).or_default() += 1;
        }
        counts
    }

    /// The violated rules. `lost` are the usages that were logged as lost.
    pub async fn check(
        &self,
        conn: &mut AsyncPgConnection,
        lost: &HashSet<UsageId>,
    ) -> Vec<String> {
        let stored = list_stored(conn).await;
        let mut by_id: HashMap<UsageId, Vec<Entry>> = HashMap::new();
        for entry in &*self.entries() {
            by_id.entry(entry.content.usage.id).or_default().push(entry.clone());
        }
        let unknown = stored.keys().filter(|id| !by_id.contains_key(id));
        let mut violations: Vec<_> =
            unknown.map(|id| format!("{id} is stored, but nobody submitted it")).collect();
        for (id, entries) in &by_id {
            for rule in self.violated_rules(entries, stored.get(id), lost.contains(id)) {
                let answers: Vec<_> = entries.iter().map(|entry| &entry.answer).collect();
                violations.push(format!("{id}: {rule}: {answers:?}"));
            }
        }
        violations
    }

    /// The rules that the entries of one id violate.
    fn violated_rules(
        &self,
        entries: &[Entry],
        stored: Option<&Stored>,
        is_lost: bool,
    ) -> Vec<&'static str> {
        let mut violated = Vec::new();
        let mut rule = |holds: bool, rule| {
            if !holds {
                violated.push(rule);
            }
        };
        for entry in entries {
            let content = &entry.content;
            let has_usage = stored.is_some_and(|stored| content.is_usage_of(stored));
            let has_all = stored.is_some_and(|stored| content.is_all_of(stored));
            match &entry.answer {
                Answer::Received(Ok(_)) => {
                    rule(has_all, "an acknowledged record is stored as submitted");
                }
                Answer::Received(Err(Error::NotAttributed { .. })) => {
                    rule(has_usage, "a usage that is not attributed is stored as submitted");
                }
                Answer::NotAwaited => {
                    rule(has_all || is_lost, "a record not awaited is stored or logged as lost");
                }
                Answer::Received(Err(_)) | Answer::NotAccepted => {}
            }
            rule(
                !entry.answer.is_recorded_differently() || (stored.is_some() && !has_all),
                "a record that was recorded differently is stored, and differs",
            );
            rule(entry.is_justified(entries), "a record is refused exactly if it is wrong");
        }
        if let Some(stored) = stored {
            let allows_usage =
                |entry: &Entry| entry.content.is_usage_of(stored) && entry.answer.allows_usage();
            rule(entries.iter().any(allows_usage), "a stored usage was submitted and not refused");
            let allows_request = |entry: &Entry| {
                entry.content.is_request_of(stored) && entry.answer.allows_request()
            };
            rule(
                stored.request.is_none() || entries.iter().any(allows_request),
                "a stored request was submitted and not refused",
            );
            rule(self.billing_first || stored.request.is_some(), "a stored usage has a request");
        }
        let is_first =
            |entry: &&Entry| matches!(entry.answer, Answer::Received(Ok(Outcome::Recorded)));
        rule(entries.iter().filter(is_first).count() <= 1, "a record is recorded once");
        violated
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap()
    }
}

impl Entry {
    /// Whether the answer fits the content and the other entries of the same id.
    ///
    /// An acknowledged record is acceptable. A refused one is unacceptable, or differs from another
    /// entry. Only a recorder that gives up may leave it inconclusive.
    fn is_justified(&self, entries: &[Entry]) -> bool {
        let Answer::Received(result) = &self.answer else { return true };
        let Err(error) = result else { return self.content.is_acceptable() };
        let is_unattributed =
            matches!(error, Error::NotAttributed { reason, .. } if is_inconclusive(reason));
        if is_unattributed || is_inconclusive(error) {
            return !self.never_gives_up;
        }
        let is_only_content = entries.iter().all(|entry| entry.content == self.content);
        !self.content.is_acceptable() || (self.answer.is_recorded_differently() && !is_only_content)
    }
}

/// Everything that is stored, by id.
#[expect(clippy::disallowed_methods, reason = "reads the database without the API")]
async fn list_stored(conn: &mut AsyncPgConnection) -> HashMap<UsageId, Stored> {
    let rows: Vec<(Usage, Option<Request>)> = usage::table
        .left_join(request::table)
        .select((Usage::as_select(), Option::<Request>::as_select()))
        .load(conn)
        .await
        .unwrap();
    rows.into_iter().map(|(usage, request)| (usage.id, Stored { usage, request })).collect()
}
