//! What served a request, as its record says.

use crate::routing::Served;
use crate::tables::requests::NewRequest;

impl NewRequest {
    /// A request that was served as routing decided. Until a prompt is given, both sides of it count as failed to be
    /// captured.
    pub fn served_by(served: &Served) -> Self {
        Self::new(served.version, served.subject)
    }
}
