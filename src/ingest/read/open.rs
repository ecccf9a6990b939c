//! Opens source files: their bytes as blocking input, decompressed.
//! A file whose first bytes contradict its name is refused.

use std::io::{BufRead, BufReader, Cursor, Read};

use futures::TryStreamExt;
use object_store::{GetOptions, GetResultPayload};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::length_check::{BROKEN_OFF, Digest, LengthCheck};
use crate::{
    error::{Error, Result},
    ingest::sources::{Compression, SourceFile},
};

const BUFFER_BYTES: usize = 1 << 20;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The bytes of a file as it was listed. Other content, or fewer bytes than the store promised, is an error.
///
/// The digest has the hash of what was read.
pub(crate) async fn raw_bytes(source: &SourceFile) -> Result<(Box<dyn Read + Send>, Digest)> {
    // In HTTP, `If-Match` never matches a weak tag.
    let if_match = source.object.e_tag.clone().filter(|tag| !tag.starts_with("W/"));
    let options = GetOptions { if_match, ..GetOptions::default() };
    let found = source.location.store().get_opts(&source.object.location, options).await.map_err(|error| match error {
        object_store::Error::Precondition { .. } => Error::SourceChanged { path: source.shown(), change: "has changed" },
        other => other.into(),
    })?;
    let size = found.meta.size;
    let raw: Box<dyn Read + Send> = match found.payload {
        GetResultPayload::File(file, _) => Box::new(file),
        GetResultPayload::Stream(stream) => Box::new(SyncIoBridge::new(StreamReader::new(stream.map_err(std::io::Error::other)))),
    };
    let digest = Digest::default();
    Ok((Box::new(LengthCheck::new(raw, size, digest.clone())), digest))
}

/// The text of a file. Decoders read their headers when they are constructed, so this blocks: threads of the runtime must not call it.
///
/// # Errors
/// [`Error::UnreadableFile`] if its first bytes contradict its name.
pub(crate) fn text_of(source: &SourceFile, raw: Box<dyn Read + Send>) -> Result<Box<dyn BufRead + Send>> {
    let mut raw = BufReader::with_capacity(BUFFER_BYTES, raw);
    let start = first_bytes(&mut raw).map_err(|e| unreadable(source, &e))?;
    let compression = match source.compression {
        Compression::ByContent if start.starts_with(GZIP) => Compression::Gzip,
        Compression::ByContent if start.is_zstd() => Compression::Zstd,
        Compression::ByContent => Compression::None,
        named => named,
    };
    let refused = |reason: String| Err(Error::UnreadableFile { path: source.shown(), reason });
    let text: Box<dyn Read + Send> = match compression {
        Compression::Gzip if !start.starts_with(GZIP) => {
            return refused(format!("its name says gzip, but it is {}", what(&start)));
        }
        Compression::Zstd if !start.is_zstd() => {
            return refused(format!("its name says zstd, but it is {}", what(&start)));
        }
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(start.chain(raw))),
        Compression::Zstd => {
            Box::new(zstd::stream::read::Decoder::with_buffer(start.chain(raw)).map_err(|e| unreadable(source, &e))?)
        }
        Compression::None | Compression::ByContent => Box::new(start.chain(raw)),
    };
    let mut text = BufReader::with_capacity(BUFFER_BYTES, text);
    let start = first_bytes(&mut text).map_err(|e| unreadable(source, &e))?;
    match what(&start) {
        TEXT | NOTHING => Ok(Box::new(start.chain(text))),
        other => refused(format!("it should be text, but it is {other}")),
    }
}

/// Takes the first four bytes, or fewer if there are no more, out of the input.
fn first_bytes(input: &mut impl Read) -> std::io::Result<Cursor<Vec<u8>>> {
    let mut bytes = Vec::new();
    input.take(4).read_to_end(&mut bytes)?;
    Ok(Cursor::new(bytes))
}

trait StartsWith {
    fn starts_with(&self, magic: &[u8]) -> bool;

    /// A frame of zstd, or a skippable frame, which some tools write before each frame (RFC 8878, 3.1.2).
    fn is_zstd(&self) -> bool;
}

impl StartsWith for Cursor<Vec<u8>> {
    fn starts_with(&self, magic: &[u8]) -> bool {
        self.get_ref().starts_with(magic)
    }

    fn is_zstd(&self) -> bool {
        self.starts_with(ZSTD) || matches!(self.get_ref().as_slice(), [0x50..=0x5f, 0x2a, 0x4d, 0x18])
    }
}

const TEXT: &str = "text";
const NOTHING: &str = "empty";

/// What a file is, by its first bytes.
fn what(start: &Cursor<Vec<u8>>) -> &'static str {
    match start.get_ref().as_slice() {
        [] => NOTHING,
        [0x1f, 0x8b, ..] => "compressed with gzip; name it `.gz`",
        [0x28, 0xb5, 0x2f, 0xfd] => "compressed with zstd; name it `.zst`",
        b"PAR1" => "Parquet; name it `.parquet`",
        [b'P', b'K', 3, 4] => "a ZIP archive; unpack it",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16; write it in UTF-8",
        _ => TEXT,
    }
}

/// The error of a file that cannot be read to its end.
pub(crate) fn unreadable(source: &SourceFile, cause: &dyn std::fmt::Display) -> Error {
    let message = cause.to_string();
    let reason = match source.compression {
        // The file itself may be intact.
        _ if message.contains(BROKEN_OFF) => message,
        Compression::None => message,
        _ => format!("{message}; its compressed data is truncated or damaged: replace or remove it"),
    };
    Error::UnreadableFile { path: source.shown(), reason }
}
