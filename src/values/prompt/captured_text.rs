//! One side of a captured prompt, with its hash.

use std::borrow::Cow;
use std::fmt;

use crate::values::prompt::sha256::Sha256Digest;

/// One side of a captured prompt: text to store, and the hash to store it under.
#[derive(Clone, PartialEq, Eq)]
pub struct CapturedText<'body> {
    text: Cow<'body, str>,
    sha256: Sha256Digest,
    is_truncated: bool,
}

impl<'body> CapturedText<'body> {
    /// Captures `text`, which is already cut if `is_truncated`.
    pub(super) fn new(text: impl Into<Cow<'body, str>>, is_truncated: bool) -> Self {
        let text = text.into();
        Self { sha256: Sha256Digest::of(&*text), text, is_truncated }
    }

    /// Captures the first `cap` bytes of `text`, cut at a character boundary.
    pub(super) fn cut(text: &'body str, cap: usize) -> Self {
        let kept = &text[..text.floor_char_boundary(cap)];
        Self::new(kept, kept.len() < text.len())
    }

    /// Text to store, at most [`CAPTURE_CAP`](crate::values::CAPTURE_CAP) bytes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of [`text`](Self::text), and its key in the blob store.
    pub fn sha256(&self) -> Sha256Digest {
        self.sha256
    }

    /// Whether the text was cut, at the last character boundary up to the cap.
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }
}

/// Shows the hash and never the text.
impl fmt::Debug for CapturedText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapturedText")
            .field("sha256", &self.sha256)
            .field("is_truncated", &self.is_truncated)
            .finish_non_exhaustive()
    }
}
