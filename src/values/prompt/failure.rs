//! Reasons why a prompt isn't captured.

/// Reason why a request body isn't captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureFailure {
    /// The body has more than 128 levels of arrays and objects.
    ///
    /// serde_json's parser refuses such a body, so only code that builds one can capture it.
    #[error("the request body is nested deeper than 128 levels; refuse it before capturing it")]
    TooDeep,
}
