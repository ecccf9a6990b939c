//! Gzip, decoded from the first read on: making a decoder reads the header, which may wait for a store.
//! It must be read where waiting is allowed; making it waits for nothing.

use std::io::{Read, Result};

use flate2::read::MultiGzDecoder;

/// The content of a gzip stream of one or more members.
pub(crate) enum Gzip<R> {
    Untouched(Option<R>),
    Begun(Box<MultiGzDecoder<R>>),
}

impl<R: Read> Gzip<R> {
    pub(crate) fn new(raw: R) -> Self {
        Self::Untouched(Some(raw))
    }
}

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if let Self::Untouched(raw) = self
            && let Some(raw) = raw.take()
        {
            *self = Self::Begun(Box::new(MultiGzDecoder::new(raw)));
        }
        match self {
            Self::Begun(decoder) => decoder.read(buffer),
            Self::Untouched(_) => Ok(0),
        }
    }
}
