//! The part of a record that one statement writes.

/// The part of a record that one statement writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The usage and its request.
    Both,
    /// The usage alone, when billing comes first; its request follows.
    Usage,
    /// The request of a usage that is committed.
    Request,
}

impl Part {
    /// Value of the metrics' label `part`.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Usage => "usage",
            Self::Request => "request",
        }
    }
}
