//! Remembers the last byte of a text. A text without a newline at its end may have been cut off in its last line.

use std::{
    io::{BufRead, Read, Result},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

/// The last byte of a text that was read through [`LastByte::watch`].
#[derive(Clone)]
pub(crate) struct LastByte(Arc<AtomicU8>);

impl Default for LastByte {
    fn default() -> Self {
        Self(Arc::new(AtomicU8::new(b'\n')))
    }
}

impl LastByte {
    /// The same text, watched.
    pub(crate) fn watch(&self, text: Box<dyn BufRead + Send>) -> Box<dyn BufRead + Send> {
        Box::new(Watched { text, last: self.0.clone() })
    }

    /// Does the last line lack its newline?
    pub(crate) fn lacks_newline(&self) -> bool {
        !matches!(self.0.load(Ordering::Relaxed), b'\n' | b'\r')
    }
}

struct Watched {
    text: Box<dyn BufRead + Send>,
    last: Arc<AtomicU8>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.text.read(buffer)?;
        if let Some(last) = buffer[..count].last() {
            self.last.store(*last, Ordering::Relaxed);
        }
        Ok(count)
    }
}

impl BufRead for Watched {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        let bytes = self.text.fill_buf()?;
        if let Some(last) = bytes.last() {
            self.last.store(*last, Ordering::Relaxed);
        }
        Ok(bytes)
    }

    fn consume(&mut self, count: usize) {
        self.text.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_newline_is_seen() {
        for (text, lacks) in [("a\nb", true), ("a\n", false), ("a\r", false), ("", false)] {
            let last_byte = LastByte::default();
            let mut read = String::new();
            last_byte.watch(Box::new(text.as_bytes())).read_to_string(&mut read).unwrap();
            assert_eq!((read.as_str(), last_byte.lacks_newline()), (text, lacks));
        }
        let last_byte = LastByte::default();
        last_byte.watch(Box::new(&b"x\ny"[..])).read_line(&mut String::new()).unwrap();
        assert!(last_byte.lacks_newline());
    }
}
