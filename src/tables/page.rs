//! Pages of a list that is ordered by an instant.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::values::{InvalidValue, stored};

/// A position in a list that is ordered by an instant and, within it, by id.
///
/// Pages that begin at a cursor neither repeat nor skip a row when rows are added meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cursor<Id> {
    /// The instant of the last row that was read.
    pub at: DateTime<Utc>,
    /// The id of the last row that was read.
    pub id: Id,
}

/// Which part of a list to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Page<Id> {
    pub(crate) after: Option<Cursor<Id>>,
    pub(crate) limit: u16,
}

impl<Id> Page<Id> {
    /// The first `limit` rows.
    pub fn first(limit: u16) -> Self {
        Self { after: None, limit }
    }

    /// The `limit` rows after `cursor`.
    pub fn after(cursor: Cursor<Id>, limit: u16) -> Self {
        Self { after: Some(cursor), limit }
    }

    /// The page with its cursor's instant as PostgreSQL keeps it.
    pub(crate) fn stored(self) -> Result<Self, InvalidValue> {
        let Some(Cursor { at, id }) = self.after else { return Ok(self) };
        Ok(Self::after(Cursor { at: stored(at)?, id }, self.limit))
    }
}
