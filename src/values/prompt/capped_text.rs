//! Text that never grows beyond a cap.

use std::io;

/// UTF-8 text of at most `cap` bytes.
///
/// `write_all` fails as soon as something doesn't fit, so that the writer stops.
pub(super) struct CappedText {
    bytes: Vec<u8>,
    cap: usize,
}

impl CappedText {
    /// Allocates room for `expected` bytes, but for no more than `cap`.
    pub(super) fn new(cap: usize, expected: usize) -> Self {
        Self { bytes: Vec::with_capacity(expected.min(cap)), cap }
    }

    /// Number of bytes until the cap.
    pub(super) fn room(&self) -> usize {
        self.cap - self.bytes.len()
    }

    /// The text, without a character that the cap cut in two.
    pub(super) fn into_text(mut self) -> String {
        if let Err(error) = str::from_utf8(&self.bytes) {
            self.bytes.truncate(error.valid_up_to());
        }
        match String::from_utf8(self.bytes) {
            Ok(text) => text,
            Err(error) => unreachable!("it was cut where it ceases to be UTF-8: {error}"),
        }
    }
}

impl io::Write for CappedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let kept = bytes.len().min(self.room());
        self.bytes.extend_from_slice(&bytes[..kept]);
        Ok(kept)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn keeps_what_fits_and_fails_on_the_rest() {
        let mut text = CappedText::new(4, 100);
        assert!(text.write_all(b"ab").is_ok() && text.room() == 2);
        let error = text.write_all("c語d".as_bytes()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
        assert_eq!(text.into_text(), "abc");

        let mut text = CappedText::new(4, 0);
        assert!(text.write_all("c語".as_bytes()).is_ok());
        assert!(text.write_all(b"d").is_err());
        assert_eq!(text.into_text(), "c語");
    }
}
