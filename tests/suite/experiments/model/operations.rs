//! The operations, in a form that is short to read and to shrink, and how each may be refused.

use model_experiments::Error;
use model_experiments::values::{AllocationSubject, Status};
use std::fmt::Debug;

/// The number of an experiment, a variant or a version that doesn't exist.
pub const NEVER: usize = 99;

/// An operation. Experiments, variants and versions are numbered in the order in which they were
/// made, deleted ones too. After the last number comes the first.
#[derive(Debug, Clone, Copy)]
pub enum Operation {
    Create {
        model: usize,
        name: &'static str,
    },
    Update {
        experiment: usize,
        name: Option<&'static str>,
        description: Option<Option<&'static str>>,
        model: Option<usize>,
    },
    Activate(usize),
    Pause(usize),
    Complete(usize),
    Delete(usize),
    Archive(usize),
    Unarchive(usize),

    AddVariant {
        experiment: usize,
        label: &'static str,
        weight: i32,
    },
    RemoveVariant(usize),
    SetWeight {
        variant: usize,
        weight: i32,
    },
    SetLabel {
        variant: usize,
        label: &'static str,
    },

    PublishNow {
        variant: usize,
        upstream: &'static str,
        key: Option<usize>,
    },
    PublishAt {
        variant: usize,
        upstream: &'static str,
        key: Option<usize>,
        at: Moment,
    },
    RotateKey {
        variant: usize,
        key: usize,
    },
    /// Another writer inserts a version that is effective at the instant of a scheduled one.
    WriteTie(usize),

    /// The host inserts a usage on its own.
    InsertUsage {
        usage: usize,
        cost: i64,
    },
    Record {
        usage: usize,
        cost: i64,
        version: usize,
        subject: AllocationSubject,
    },
    Attribute {
        usage: usize,
        version: usize,
        subject: AllocationSubject,
    },
    /// Records once more what is recorded.
    Replay(usize),

    Route {
        model: usize,
        user: &'static str,
    },
    FindCurrent {
        variant: usize,
        at: Moment,
    },
    ListCurrent {
        experiment: usize,
        at: Moment,
    },
    FindOverview {
        experiment: usize,
    },
    ReadHistory {
        variant: usize,
        page: u16,
    },
    List {
        model: usize,
        status: Option<Status>,
        include_archived: bool,
        until: Moment,
    },
    FindUsage(usize),
}

/// An instant that doesn't depend on how fast the machine is.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// A number of hours after the start of the case.
    Hour(i64),
    /// The latest instant that the database returned.
    Latest,
    /// When a version becomes effective, plus a number of microseconds.
    Effective { version: usize, plus: i64 },
    /// When an experiment was created, plus a number of microseconds.
    Created { experiment: usize, plus: i64 },
}

/// Every operation, with the documented errors that can be provoked here.
pub const REFUSALS: [(&str, &[&str]); 27] = [
    ("Create", &["Invalid"]),
    ("Update", &["Invalid", "ExperimentNotFound", "NotDraft"]),
    (
        "Activate",
        &[
            "ExperimentNotFound",
            "InvalidTransition",
            "Archived",
            "NoVariant",
            "NoCurrentVersion",
            "PublicModelIdTaken",
        ],
    ),
    ("Pause", &["ExperimentNotFound", "InvalidTransition"]),
    ("Complete", &["ExperimentNotFound", "InvalidTransition"]),
    ("Delete", &["ExperimentNotFound", "NotDraft", "HasRequests"]),
    ("Archive", &["ExperimentNotFound", "ActiveNotArchivable"]),
    ("Unarchive", &["ExperimentNotFound"]),
    ("AddVariant", &["ExperimentNotFound", "NotDraft", "LabelTaken"]),
    ("RemoveVariant", &["VariantNotFound", "NotDraft", "HasRequests"]),
    ("SetWeight", &["VariantNotFound", "NotDraft"]),
    ("SetLabel", &["VariantNotFound", "Completed", "LabelTaken"]),
    ("PublishNow", &["VariantNotFound", "Completed", "KeyMissing"]),
    ("PublishAt", &["VariantNotFound", "Completed", "Backdated", "InstantTaken", "KeyMissing"]),
    ("RotateKey", &["VariantNotFound", "Completed", "NothingToRotate"]),
    ("WriteTie", &[]),
    ("InsertUsage", &[]),
    ("Record", &["VersionNotFound", "RecordedDifferently"]),
    ("Attribute", &["UsageNotFound", "VersionNotFound", "RecordedDifferently"]),
    ("Replay", &[]),
    ("Route", &[]),
    ("FindCurrent", &["VariantNotFound"]),
    ("ListCurrent", &["ExperimentNotFound"]),
    ("FindOverview", &["ExperimentNotFound"]),
    ("ReadHistory", &["VariantNotFound"]),
    ("List", &[]),
    ("FindUsage", &[]),
];

impl Operation {
    /// The operation's name in [`REFUSALS`], and the errors that it documents.
    pub fn documented(&self) -> (&'static str, &'static [&'static str]) {
        let name = variant_name(self);
        *REFUSALS.iter().find(|(known, _)| *known == name).unwrap()
    }
}

/// An error's name in [`REFUSALS`]. Each reason of [`Error::NotReady`] has a name of its own.
pub fn refusal(error: &Error) -> String {
    match error {
        Error::NotReady { reason, .. } => variant_name(reason),
        error => variant_name(error),
    }
}

/// The name of an enum's variant.
fn variant_name(value: &impl Debug) -> String {
    let shown = format!("{value:?}");
    shown.split(|end: char| !end.is_alphanumeric()).next().unwrap_or_default().to_owned()
}
