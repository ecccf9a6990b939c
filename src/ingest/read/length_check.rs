//! Checks that a stream of bytes is as long as the store promised, so that a broken-off stream is an error and not the end of a
//! file. It also hashes the bytes, so that what was read can be compared with what was found.

use std::{
    io::{Error, ErrorKind, Read, Result},
    sync::{Arc, OnceLock},
};

use crate::name::ContentId;

/// The words of the error.
pub(crate) const BROKEN_OFF: &str = "the store broke off";

/// The hash of what was read.
#[derive(Clone, Default)]
pub(crate) struct Digest(Arc<OnceLock<ContentId>>);

impl Digest {
    /// The hash of all bytes; `None` unless they were read to the end.
    pub(crate) fn of_all(&self) -> Option<ContentId> {
        self.0.get().copied()
    }
}

/// Reads an object of known size.
pub(crate) struct LengthCheck<R> {
    inner: R,
    missing: u64,
    hasher: blake3::Hasher,
    digest: Digest,
}

impl<R: Read> LengthCheck<R> {
    pub(crate) fn new(inner: R, size: u64, digest: Digest) -> Self {
        Self { inner, missing: size, hasher: blake3::Hasher::new(), digest }
    }
}

impl<R: Read> Read for LengthCheck<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.missing = self.missing.saturating_sub(count as u64);
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        if self.missing > 0 {
            let message = format!("{BROKEN_OFF} {} bytes before the end; try again", self.missing);
            return Err(Error::new(ErrorKind::UnexpectedEof, message));
        }
        self.digest.0.get_or_init(|| ContentId::from_hash(self.hasher.finalize()));
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_was_promised_is_an_error() {
        let (mut text, digest) = (String::new(), Digest::default());
        assert_eq!(LengthCheck::new(&b"abc"[..], 3, digest.clone()).read_to_string(&mut text).unwrap(), 3);
        assert_eq!(digest.of_all(), Some(ContentId::of(b"abc")));
        let digest = Digest::default();
        let cut = LengthCheck::new(&b"abc"[..], 4, digest.clone()).read_to_string(&mut text).unwrap_err();
        assert_eq!((cut.kind(), digest.of_all()), (ErrorKind::UnexpectedEof, None));
    }

    #[test]
    fn what_was_not_read_has_no_hash() {
        let (mut two, digest) = ([0; 2], Digest::default());
        LengthCheck::new(&b"abc"[..], 3, digest.clone()).read_exact(&mut two).unwrap();
        assert_eq!(digest.of_all(), None);
    }
}
