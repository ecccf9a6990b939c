//! A stream of bytes that has to be as long as its object: what is cut off is an error, never the end of a file.
//! It looks at no byte.

use std::io::{Error, ErrorKind, Read, Result};

/// What the error says.
pub(crate) const BROKEN_OFF: &str = "the store broke off";

/// Reads an object of known size.
pub(crate) struct Whole<R> {
    inner: R,
    missing: u64,
}

impl<R: Read> Whole<R> {
    pub(crate) fn new(inner: R, size: u64) -> Self {
        Self { inner, missing: size }
    }
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.inner.read(buffer)?;
        self.missing = self.missing.saturating_sub(count as u64);
        if count == 0 && !buffer.is_empty() && self.missing > 0 {
            let told = format!("{BROKEN_OFF} {} bytes before the end; try again", self.missing);
            return Err(Error::new(ErrorKind::UnexpectedEof, told));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_was_promised_is_an_error() {
        let mut text = String::new();
        assert_eq!(Whole::new(&b"abc"[..], 3).read_to_string(&mut text).unwrap(), 3);
        let cut = Whole::new(&b"abc"[..], 4).read_to_string(&mut text).unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::UnexpectedEof);
    }
}
