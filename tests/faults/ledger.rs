//! What became of each record by the word of its recorder, and whether the database bears it out.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use model_experiments::recording::{NewRequest, Outcome, Record, Request, Usage};
use model_experiments::schema::{microdollar_usage, model_experiment_request};
use model_experiments::values::{AllocationSubject, UsageId, VersionId};
use model_experiments::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use crate::report::Counts;

/// The records of a database, in the order in which they were submitted.
pub struct Ledger {
    /// Whether usages are written before their requests.
    billing_first: bool,
    entries: Mutex<Vec<Entry>>,
}

/// A record that was submitted.
#[derive(Clone)]
pub struct Entry {
    pub content: Content,
    /// Whether its recorder tries for longer than any fault lasts.
    pub is_patient: bool,
    pub end: End,
}

/// What a record is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    pub usage: Usage,
    pub version: VersionId,
    pub client_request_id: String,
}

/// How recording ended for who submitted the record.
#[derive(Debug, Clone)]
pub enum End {
    /// The recorder has it, and nobody waits for it.
    Unheard,
    /// The recorder answered.
    Told(Result<Outcome>),
    /// The recorder never had it.
    NotTaken,
}

/// What is stored under an id.
type Stored = (Usage, Option<Request>);

impl Content {
    /// Something new that `version` served, with nothing wrong with it.
    pub fn new(version: VersionId) -> Self {
        let usage = Usage { cost: 1, input_tokens: 2, ..Usage::new("user-1") };
        let client_request_id = usage.id.to_string();
        Self { usage, version, client_request_id }
    }

    /// Whether the database may be asked to take it.
    pub fn is_valid(&self) -> bool {
        let is_storable = |text: &String| !text.contains('\0');
        self.usage.model.as_ref().is_none_or(is_storable) && self.usage.kilo_user_id.len() <= 2_048
    }

    /// Whether the database takes it: there is such a version, and the host's rule holds.
    fn is_acceptable(&self) -> bool {
        self.is_valid() && !self.version.as_uuid().is_nil() && self.usage.cost >= 0
    }

    pub fn record(&self) -> Record {
        let request = NewRequest::new(self.version, AllocationSubject::User)
            .client_request_id(&self.client_request_id);
        Record::new(self.usage.clone(), request)
    }

    fn is_request(&self, stored: &Request) -> bool {
        stored.variant_version_id == self.version
            && stored.client_request_id.as_ref() == Some(&self.client_request_id)
            && stored.created_at == self.usage.created_at
    }
}

impl End {
    /// Whether the usage may be there, whatever else was said of it.
    fn may_have_usage(&self) -> bool {
        match self {
            Self::Told(Err(error)) => {
                is_open(error) || matches!(error, Error::NotAttributed { .. })
            }
            Self::Unheard | Self::Told(Ok(_)) => true,
            Self::NotTaken => false,
        }
    }

    fn may_have_request(&self) -> bool {
        match self {
            Self::Told(Err(Error::NotAttributed { reason, .. })) => is_open(reason),
            end => end.may_have_usage(),
        }
    }

    fn is_different(&self) -> bool {
        let Self::Told(Err(error)) = self else { return false };
        let error = match error {
            Error::NotAttributed { reason, .. } => reason,
            error => error,
        };
        matches!(error, Error::RecordedDifferently { .. })
    }

    /// A word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unheard => "nobody waited",
            Self::NotTaken => "not taken",
            Self::Told(Ok(Outcome::Recorded)) => "recorded",
            Self::Told(Ok(Outcome::AlreadyRecorded)) => "already recorded",
            Self::Told(Err(Error::NotAttributed { .. })) => "not attributed",
            Self::Told(Err(Error::RecordedDifferently { .. })) => "recorded differently",
            Self::Told(Err(error)) if is_open(error) => "left open",
            Self::Told(Err(_)) => "refused",
        }
    }
}

/// Whether the error leaves open whether the row was written.
fn is_open(error: &Error) -> bool {
    error.is_retryable() || *error == Error::RecorderClosed
}

impl Ledger {
    pub fn new(billing_first: bool) -> Self {
        Self { billing_first, entries: Mutex::default() }
    }

    /// Enters a record that is about to be submitted, and tells its number.
    pub fn submit(&self, entry: Entry) -> usize {
        let mut entries = self.entries();
        entries.push(entry);
        entries.len() - 1
    }

    /// Enters how it ended.
    pub fn ended(&self, number: usize, end: End) {
        self.entries()[number].end = end;
    }

    /// The content of one of the last few records.
    pub fn recent(&self, back: usize) -> Option<Content> {
        let entries = self.entries();
        let at = entries.len().checked_sub(back + 1)?;
        Some(entries[at].content.clone())
    }

    /// How many records ended in each way.
    pub fn ends(&self) -> Counts {
        let mut ends = Counts::new();
        for entry in &*self.entries() {
            *ends.entry(entry.end.name()).or_default() += 1;
        }
        ends
    }

    /// What the database at `conn` doesn't bear out. The usages in `logged` were said to be lost
    /// where nobody waited.
    pub async fn check(
        &self,
        conn: &mut AsyncPgConnection,
        logged: &HashSet<UsageId>,
    ) -> Vec<String> {
        let stored = stored(conn).await;
        let mut by_id: HashMap<UsageId, Vec<Entry>> = HashMap::new();
        for entry in &*self.entries() {
            by_id.entry(entry.content.usage.id).or_default().push(entry.clone());
        }
        let unknown = stored.keys().filter(|id| !by_id.contains_key(id));
        let mut broken: Vec<_> =
            unknown.map(|id| format!("{id} is there, and nobody submitted it")).collect();
        for (id, entries) in &by_id {
            let logged = logged.contains(id);
            for rule in self.broken(entries, stored.get(id), logged) {
                let ends: Vec<_> = entries.iter().map(|entry| &entry.end).collect();
                broken.push(format!("{id}: {rule}: {ends:?}"));
            }
        }
        broken
    }

    /// The rules that what is stored under an id breaks.
    fn broken(
        &self,
        entries: &[Entry],
        stored: Option<&Stored>,
        is_logged: bool,
    ) -> Vec<&'static str> {
        let usage = stored.map(|(usage, _)| usage);
        let request = stored.and_then(|(_, request)| request.as_ref());
        let has_usage = |entry: &Entry| usage == Some(&entry.content.usage);
        let has_request =
            |entry: &Entry| request.is_some_and(|request| entry.content.is_request(request));
        let mut broken = Vec::new();
        let mut rule = |holds: bool, rule| {
            if !holds {
                broken.push(rule);
            }
        };
        for entry in entries {
            match &entry.end {
                End::Told(Ok(_)) => rule(
                    has_usage(entry) && has_request(entry),
                    "what was acknowledged is there as it was submitted",
                ),
                End::Told(Err(Error::NotAttributed { .. })) => {
                    rule(has_usage(entry), "what wasn't attributed is billed");
                }
                End::Unheard => rule(
                    is_logged || (has_usage(entry) && has_request(entry)),
                    "what nobody waited for is there, or was said to be lost",
                ),
                _ => {}
            }
            rule(
                !entry.end.is_different()
                    || (stored.is_some() && !(has_usage(entry) && has_request(entry))),
                "what was recorded differently is there, and different",
            );
            rule(
                entry.is_just(entries),
                "it is refused if something is wrong with it, and only then",
            );
        }
        rule(
            usage.is_none()
                || entries.iter().any(|entry| has_usage(entry) && entry.end.may_have_usage()),
            "no usage is there that wasn't recorded",
        );
        rule(
            request.is_none()
                || entries.iter().any(|entry| has_request(entry) && entry.end.may_have_request()),
            "no request is there that wasn't recorded",
        );
        rule(self.billing_first || usage.is_some() == request.is_some(), "a usage has a request");
        let firsts =
            entries.iter().filter(|entry| matches!(entry.end, End::Told(Ok(Outcome::Recorded))));
        rule(firsts.count() <= 1, "nothing is recorded twice");
        broken
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap()
    }
}

impl Entry {
    /// Whether it was taken only if nothing is wrong with it, and refused only if something is or
    /// another of its id was first; and a patient recorder didn't leave it open.
    fn is_just(&self, entries: &[Entry]) -> bool {
        let End::Told(told) = &self.end else { return true };
        let Err(error) = told else { return self.content.is_acceptable() };
        let is_left = matches!(error, Error::NotAttributed { reason, .. } if is_open(reason));
        if is_left || is_open(error) {
            return !self.is_patient;
        }
        let is_first = entries.iter().all(|entry| entry.content == self.content);
        !self.content.is_acceptable() || (self.end.is_different() && !is_first)
    }
}

/// All that is stored, by id.
#[expect(clippy::disallowed_methods, reason = "looks at the database behind the API's back")]
async fn stored(conn: &mut AsyncPgConnection) -> HashMap<UsageId, Stored> {
    let rows: Vec<Stored> = microdollar_usage::table
        .left_join(model_experiment_request::table)
        .select((Usage::as_select(), Option::<Request>::as_select()))
        .load(conn)
        .await
        .unwrap();
    rows.into_iter().map(|(usage, request)| (usage.id, (usage, request))).collect()
}
