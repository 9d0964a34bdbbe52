//! Text that is kept of a prompt, up to a cap, and its hash.

use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt;

use crate::values::prompt::sha256::Sha256Digest;

/// A SHA-256 block. Whole blocks are hashed where they are, and parts of one copied first.
const BLOCK: usize = 64;

/// How much may be written past the cap without growing.
const MARGIN: usize = 4 << 10;

/// One side of a captured prompt: what to store, and the hash to store it under.
#[derive(Clone, PartialEq, Eq)]
pub struct CapturedText<'body> {
    text: Cow<'body, str>,
    sha256: Sha256Digest,
    is_truncated: bool,
}

/// Text that is hashed as it is written. What exceeds the cap may be written, and isn't kept.
pub(super) struct CapturedTextWriter {
    text: String,
    sha256: Sha256,
    hashed: usize,
    cap: usize,
}

impl<'body> CapturedText<'body> {
    /// As much of `text` as `cap` allows.
    pub(super) fn of(text: &'body str, cap: usize) -> Self {
        let kept = &text[..text.floor_char_boundary(cap)];
        Self {
            text: Cow::Borrowed(kept),
            sha256: Sha256Digest::of(kept),
            is_truncated: kept.len() < text.len(),
        }
    }

    /// The text to store, at most [`CAPTURE_CAP`](super::CAPTURE_CAP) bytes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The SHA-256 of [`text`](Self::text), under which it is stored.
    pub fn sha256(&self) -> Sha256Digest {
        self.sha256
    }

    /// Whether the text was cut at [`CAPTURE_CAP`](super::CAPTURE_CAP), at a character's boundary.
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

impl CapturedTextWriter {
    /// A writer with room for `expected` bytes, but not for much more than `cap` allows.
    pub(super) fn new(cap: usize, expected: usize) -> Self {
        let room = expected.min(cap.saturating_add(MARGIN));
        Self { text: String::with_capacity(room), sha256: Sha256::new(), hashed: 0, cap }
    }

    /// What was written so far.
    #[cfg(test)]
    pub(super) fn written(&self) -> &str {
        &self.text
    }

    /// Whether what is written next isn't kept.
    pub(super) fn is_full(&self) -> bool {
        self.text.len() > self.cap
    }

    pub(super) fn push_str(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub(super) fn push(&mut self, character: char) {
        self.text.push(character);
    }

    /// Hashes the whole blocks of what was written, best while it is in the processor's nearest cache.
    pub(super) fn hash_written(&mut self) {
        if !self.is_full() {
            let (blocks, _) = self.text.as_bytes()[self.hashed..].as_chunks::<BLOCK>();
            self.sha256.update(blocks.as_flattened());
            self.hashed += blocks.as_flattened().len();
        }
    }

    /// What was written, up to the cap.
    pub(super) fn finish(mut self) -> CapturedText<'static> {
        let is_truncated = self.is_full();
        self.text.truncate(self.text.floor_char_boundary(self.cap));
        self.sha256.update(&self.text.as_bytes()[self.hashed..]);
        let sha256 = <[u8; 32]>::from(self.sha256.finalize()).into();
        CapturedText { text: Cow::Owned(self.text), sha256, is_truncated }
    }
}

impl fmt::Write for CapturedTextWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text);
        Ok(())
    }
}
