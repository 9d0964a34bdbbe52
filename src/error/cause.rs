//! What the server, the driver or this crate says of a failure.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What the server, the driver or this crate says of a failure, with the error that it comes from,
/// if there is one.
///
/// Two causes are equal when they say the same.
#[derive(Debug, Clone)]
pub struct Cause {
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Cause {
    /// The cause of an error, in its words.
    pub(crate) fn of(error: impl StdError + Send + Sync + 'static) -> Self {
        Self::of_boxed(Box::new(error))
    }

    /// The cause of an error, in the words of it and of its sources.
    pub(crate) fn of_boxed(error: Box<dyn StdError + Send + Sync>) -> Self {
        Self { message: Self::with_sources(&*error), source: Some(error.into()) }
    }

    /// The cause of an error, in other words.
    pub(crate) fn new(
        message: impl Into<String>,
        error: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self { message: message.into(), source: Some(Arc::new(error)) }
    }

    /// An error's words, followed by those of its sources.
    pub(crate) fn with_sources(error: &(dyn StdError + 'static)) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    /// What is said.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<String> for Cause {
    fn from(message: String) -> Self {
        Self { message, source: None }
    }
}

impl From<&str> for Cause {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        self.message == other.message
    }
}

impl Eq for Cause {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
