//! What is recorded of one served request, and how recording it ended.

use crate::tables::requests::NewRequest;
use crate::tables::usages::Usage;
use crate::values::InvalidValue;

/// One served request: its usage, and the request row that attributes it to a version.
///
/// Both rows are keyed by the usage's id. Keep the record and submit it again unchanged on a retry:
/// the id makes recording idempotent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Tokens used and cost, in microdollars.
    pub usage: Usage,
    /// The version that served the request, and references to its prompt.
    pub request: NewRequest,
}

/// How recording succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub enum Outcome {
    /// This call recorded it.
    Recorded,
    /// It was recorded earlier with the same content; nothing was written.
    AlreadyRecorded,
}

impl Record {
    /// A record of `usage` and its `request`.
    pub fn new(usage: Usage, request: NewRequest) -> Self {
        Self { usage, request }
    }

    /// Checks the lengths and characters of all texts.
    pub(super) fn check(&self) -> Result<(), InvalidValue> {
        self.usage.check()?;
        self.request.check()
    }

    /// Releases unused capacity of all texts; returns the bytes that they occupy.
    pub(super) fn shrink_to_fit(&mut self) -> usize {
        self.usage.shrink_to_fit() + self.request.shrink_to_fit()
    }
}
