//! Writes the served file of a materialization, group by group, as its published rows are read.

use std::io::{self, Seek, SeekFrom, Write};

use arrow::array::RecordBatch;

use super::{
    format::{Footer, GroupFooter, LAYOUT},
    index::{Index, hash},
    layout::{RowLayout, RowPlace},
};
use crate::{
    error::{Error, Result},
    name::ContentId,
};

/// Why a file could not be written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The disk refused, as a full one does.
    Disk(io::Error),
    /// The rows cannot be served, or cannot be read.
    Rows(Error),
}

impl From<io::Error> for WriteError {
    fn from(cause: io::Error) -> Self {
        WriteError::Disk(cause)
    }
}

impl From<Error> for WriteError {
    fn from(cause: Error) -> Self {
        WriteError::Rows(cause)
    }
}

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// A file that is being written.
pub(crate) struct Writer<W> {
    out: W,
    id: ContentId,
    groups: Vec<GroupFooter>,
    /// Where the next group begins.
    at: u64,
}

/// A group that is being written.
pub(crate) struct GroupWriter<'a, W> {
    file: &'a mut Writer<W>,
    layout: &'a RowLayout,
    index: Index,
    footer: GroupFooter,
    first: RowPlace,
    written: u64,
    rows: Region,
    heap: Region,
    last_key: Option<Vec<u8>>,
}

/// Bytes that are appended at a place of the file.
struct Region {
    at: u64,
    waiting: Vec<u8>,
}

impl Region {
    fn write<W: Write + Seek>(&mut self, out: &mut W, bytes: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() < BUFFER { Ok(()) } else { self.flush(out) }
    }

    fn flush<W: Write + Seek>(&mut self, out: &mut W) -> io::Result<()> {
        out.seek(SeekFrom::Start(self.at))?;
        out.write_all(&self.waiting)?;
        self.at += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }
}

impl<W: Write + Seek> Writer<W> {
    pub(super) fn new(out: W, id: ContentId) -> Self {
        Self { out, id, groups: Vec::new(), at: 0 }
    }

    /// Begins the next group, of exactly this many rows, which come in the order of the published ones.
    pub(crate) fn group<'a>(&'a mut self, layout: &'a RowLayout, rows: u64) -> Result<GroupWriter<'a, W>> {
        let index_bytes = Index::bytes_for(rows)?;
        let row_bytes = layout.row_bytes();
        let rows_at = self.at + index_bytes;
        let heap_at = rows_at + rows * row_bytes as u64;
        let footer =
            GroupFooter { rows, row_bytes, index_at: self.at, index_bytes, index_checksum: 0, rows_at, heap_at, heap_bytes: 0 };
        let region = |at| Region { at, waiting: Vec::with_capacity(BUFFER) };
        let index = Index::for_rows(rows)?;
        let first = RowPlace::first_of(self.id, self.groups.len());
        Ok(GroupWriter {
            file: self,
            layout,
            index,
            footer,
            first,
            written: 0,
            rows: region(rows_at),
            heap: region(heap_at),
            last_key: None,
        })
    }

    /// Writes the footer.
    pub(super) fn finish(mut self) -> Result<W, WriteError> {
        let footer = Footer { layout: LAYOUT, id: self.id, groups: self.groups, at: self.at };
        let bytes = footer.to_bytes().map_err(|e| broken(&e.to_string()))?;
        self.out.seek(SeekFrom::Start(self.at))?;
        self.out.write_all(&bytes)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write + Seek> GroupWriter<'_, W> {
    /// Adds rows.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        let encoded = self.layout.encode(batch, self.first.plus(self.written), self.footer.heap_bytes)?;
        for key in encoded.keys {
            if self.written >= self.footer.rows {
                return Err(broken("there are more rows than its manifest says").into());
            }
            // Published rows are in the order of their keys.
            if self.last_key.as_ref() == Some(&key) {
                return Err(broken("two of its rows have one key").into());
            }
            self.index.insert(hash(&key), u32::try_from(self.written).unwrap_or(u32::MAX));
            self.written += 1;
            self.last_key = Some(key);
        }
        self.rows.write(&mut self.file.out, &encoded.fixed)?;
        self.footer.heap_bytes += encoded.heap.len() as u64;
        Ok(self.heap.write(&mut self.file.out, &encoded.heap)?)
    }

    /// Writes the index, when there are no more rows.
    pub(crate) fn finish(mut self) -> Result<(), WriteError> {
        if self.written != self.footer.rows {
            return Err(broken("there are fewer rows than its manifest says").into());
        }
        let out = &mut self.file.out;
        self.rows.flush(out)?;
        self.heap.flush(out)?;
        let index = self.index.to_bytes();
        self.footer.index_checksum = crc32fast::hash(&index);
        out.seek(SeekFrom::Start(self.footer.index_at))?;
        out.write_all(&index)?;
        self.file.at = self.footer.heap_at + self.footer.heap_bytes;
        self.file.groups.push(self.footer);
        Ok(())
    }
}

fn broken(reason: &str) -> Error {
    Error::Corrupt { path: "the published rows of a materialization".into(), reason: format!("{reason}; materialize it again") }
}
