//! From a routing decision to the request that records it.

use crate::routing::Served;
use crate::tables::requests::NewRequest;

impl NewRequest {
    /// A request served by the version that routing chose.
    ///
    /// Without [`prompt`](Self::prompt) or [`prompt_refs`](Self::prompt_refs), both sides of the
    /// prompt are recorded as failed to capture.
    pub fn served_by(served: &Served) -> Self {
        Self::new(served.version, served.subject)
    }
}
