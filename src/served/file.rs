//! A served file that is open: rows are read by position, or from memory. Nothing is locked and nothing is changed.

use std::{fs::File, io, mem, thread};

use super::{
    format::{Footer, GroupFooter, TAIL},
    index::{Index, hash},
    layout::{Row, RowLayout, RowPlace},
};
use crate::name::ContentId;

/// Giving back more memory than this takes a reader too long: Linux needs about a tenth of a millisecond for a mebibyte.
const MUCH: usize = 4 << 20;

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Source {
    File(File, u64),
    Memory(Vec<u8>),
}

impl Source {
    pub(super) fn len(&self) -> u64 {
        match self {
            Source::File(_, len) => *len,
            Source::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `into` with the bytes from this position on.
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        match self {
            Source::File(file, _) => read_exact_at(file, into, at),
            Source::Memory(bytes) => {
                let begin = usize::try_from(at).unwrap_or(usize::MAX);
                let found = bytes.get(begin..begin.saturating_add(into.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
                into.copy_from_slice(found);
                Ok(())
            }
        }
    }

    fn bytes(&self, at: u64, length: u64) -> Option<Vec<u8>> {
        if at.checked_add(length)? > self.len() {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.read(at, &mut bytes).ok()?;
        Some(bytes)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, into: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut into: &mut [u8], mut at: u64) -> io::Result<()> {
    while !into.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, into, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                into = &mut into[read..];
                at += read as u64;
            }
        }
    }
    Ok(())
}

/// A served file.
#[derive(Debug)]
pub(crate) struct ServedFile {
    source: Source,
    groups: Vec<(GroupFooter, RowPlace, Index)>,
}

/// The result of looking up a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its row is in the buffer.
    Row,
    /// The group has no such key.
    Nothing,
    /// A row that may be the one cannot be read, or is not what was written.
    Damaged,
}

impl ServedFile {
    /// Reads footer and indexes. `None` if this is not a whole file of this materialization with rows of these layouts.
    pub(super) fn open(source: Source, id: ContentId, layouts: &[RowLayout]) -> Option<Self> {
        let tail_at = source.len().checked_sub(TAIL as u64)?;
        let tail: [u8; TAIL] = source.bytes(tail_at, TAIL as u64)?.try_into().ok()?;
        let length = Footer::length(&tail)? as u64;
        let at = tail_at.checked_sub(length)?;
        let footer = Footer::parse(&source.bytes(at, length)?, &tail, at)?;
        if footer.id != id || footer.groups.len() != layouts.len() {
            return None;
        }
        let mut groups = Vec::with_capacity(layouts.len());
        for (number, (group, layout)) in footer.groups.into_iter().zip(layouts).enumerate() {
            let bytes = source.bytes(group.index_at, group.index_bytes)?;
            if group.row_bytes != layout.row_bytes() || crc32fast::hash(&bytes) != group.index_checksum {
                return None;
            }
            groups.push((group, RowPlace::first_of(id, number), Index::from_bytes(&bytes)?));
        }
        Some(Self { source, groups })
    }

    /// Bytes that it holds in memory.
    fn held(&self) -> usize {
        let rows = match &self.source {
            Source::File(..) => 0,
            Source::Memory(bytes) => bytes.len(),
        };
        self.groups.iter().map(|(_, _, index)| index.held()).sum::<usize>() + rows
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        self.source.len()
    }

    /// Looks for the row with this key, which has the form of the layout's keys, and reads it into `row`. Without `heap` the bytes
    /// of texts and lists are read only if the key has some.
    pub(crate) fn find(&self, group: usize, layout: &RowLayout, key: &[u8], heap: bool, row: &mut Row) -> Found {
        let Some((group, first, index)) = self.groups.get(group) else { return Found::Damaged };
        for number in index.candidates(hash(key)) {
            match self.read(group, *first, layout, number, heap, row) {
                None => return Found::Damaged,
                Some(()) => match layout.key(&row.fixed, &row.heap) {
                    Some(found) if found == key => return Found::Row,
                    Some(_) => {}
                    None => return Found::Damaged,
                },
            }
        }
        Found::Nothing
    }

    fn read(
        &self,
        group: &GroupFooter,
        first: RowPlace,
        layout: &RowLayout,
        number: u32,
        heap: bool,
        row: &mut Row,
    ) -> Option<()> {
        if u64::from(number) >= group.rows {
            return None;
        }
        row.fixed.resize(group.row_bytes, 0);
        row.heap.clear();
        self.source.read(group.rows_at + u64::from(number) * group.row_bytes as u64, &mut row.fixed).ok()?;
        if !RowLayout::is_whole(&row.fixed, first.plus(number.into())) {
            return None;
        }
        if layout.has_heap() && (heap || layout.key_in_heap()) {
            let (at, length) = layout.heap_range(&row.fixed);
            if at.checked_add(length as u64)? > group.heap_bytes {
                return None;
            }
            row.heap.resize(length, 0);
            self.source.read(group.heap_at + at, &mut row.heap).ok()?;
            if !layout.is_heap_whole(row) {
                return None;
            }
        }
        Some(())
    }
}

impl ServedFile {
    /// What it holds in memory, if that is much: it is left without rows.
    fn taken_if_much(&mut self) -> Option<impl Send + use<>> {
        (self.held() > MUCH).then(|| (mem::replace(&mut self.source, Source::Memory(Vec::new())), mem::take(&mut self.groups)))
    }
}

impl Drop for ServedFile {
    /// The last handle may be that of a request which began before a move. So a thread of its own gives much memory back.
    fn drop(&mut self) {
        if let Some(taken) = self.taken_if_much() {
            // Without a thread, it is given back here.
            drop(thread::Builder::new().name("asof-release".into()).spawn(move || drop(taken)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_memory_is_taken_from_the_reader_that_gives_it_back() {
        let of = |bytes: usize| ServedFile { source: Source::Memory(vec![1; bytes]), groups: Vec::new() };
        let mut large = of(MUCH + 1);
        assert!(large.taken_if_much().is_some());
        assert_eq!(large.held(), 0);
        // What is left is not worth a thread, and neither is little.
        assert!(large.taken_if_much().is_none());
        let mut small = of(9);
        assert!(small.taken_if_much().is_none());
        assert_eq!(small.held(), 9);
    }
}
