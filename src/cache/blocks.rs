//! Rows by key as blocks of consecutive rows, and the directory that tells in which block a key lies.
//! This file knows bytes only; the cache verifies their checksums.
//!
//! A block:
//!
//! ```text
//! rows u32 | for each row: end of its key u32, end of its value u32 | key, value, key, value, ...
//! ```
//!
//! A directory:
//!
//! ```text
//! blocks u64 | for each block: end of its first key u64 | first key, first key, ...
//! ```
//!
//! Numbers are little-endian; ends are offsets from the start of the first key.

use std::{cmp::Ordering, ops::Range};

use crate::error::{Error, Result};

/// The size at which a block is closed: a read copies and checks about as much.
const BLOCK_BYTES: usize = 2 << 10;
const BLOCK_ROWS: usize = 64;

/// Puts rows, in the order of their keys, into blocks.
#[derive(Debug, Default)]
pub(super) struct BlocksWriter {
    first_keys: Vec<u8>,
    first_key_ends: Vec<usize>,
    last_key: Option<Vec<u8>>,
    ends: Vec<u8>,
    bytes: Vec<u8>,
}

impl BlocksWriter {
    /// Adds a row; returns a block when one is full.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the key does not come after the one before.
    pub(super) fn push(&mut self, key: &[u8], row: &[u8]) -> Result<Option<Vec<u8>>> {
        if self.last_key.as_deref().is_some_and(|last| key <= last) {
            return Err(refused("they are not in the order of their keys"));
        }
        if self.ends.is_empty() {
            self.first_keys.extend_from_slice(key);
            self.first_key_ends.push(self.first_keys.len());
        }
        for part in [key, row] {
            self.bytes.extend_from_slice(part);
            let end = u32::try_from(self.bytes.len()).map_err(|_| refused("a block of them is larger than 4 GiB"))?;
            self.ends.extend_from_slice(&end.to_le_bytes());
        }
        let last_key = self.last_key.get_or_insert_default();
        last_key.clear();
        last_key.extend_from_slice(key);
        let is_full = self.bytes.len() + self.ends.len() >= BLOCK_BYTES || self.ends.len() / ENDS_BYTES >= BLOCK_ROWS;
        Ok(is_full.then(|| self.close()))
    }

    fn close(&mut self) -> Vec<u8> {
        let rows = u32::try_from(self.ends.len() / ENDS_BYTES).unwrap_or(u32::MAX);
        let block = [&rows.to_le_bytes(), self.ends.as_slice(), self.bytes.as_slice()].concat();
        self.ends.clear();
        self.bytes.clear();
        block
    }

    /// The last block, if one is open, and the directory.
    pub(super) fn finish(mut self) -> (Option<Vec<u8>>, Directory) {
        let last = (!self.ends.is_empty()).then(|| self.close());
        (last, Directory { first_keys: self.first_keys, ends: self.first_key_ends })
    }
}

fn refused(what: &str) -> Error {
    let reason = format!("{what}; please report this as a bug in asof");
    Error::Corrupt { path: "the rows of a materialization".into(), reason }
}

const COUNT_BYTES: usize = 4;
/// Two ends.
const ENDS_BYTES: usize = 8;

/// The result of looking up a key in a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InBlock {
    /// The range of its row's value in the block.
    Row(Range<usize>),
    /// The block does not hold it.
    Nothing,
    /// These bytes are not a block.
    Damaged,
}

/// Looks for a key in a block.
pub(super) fn find_in_block(block: &[u8], key: &[u8]) -> InBlock {
    search(block, key).unwrap_or(InBlock::Damaged)
}

fn search(block: &[u8], key: &[u8]) -> Option<InBlock> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(block.get(at..at + 4)?.try_into().ok()?) as usize);
    let rows = u32_at(0)?;
    let start = COUNT_BYTES + rows.checked_mul(ENDS_BYTES)?;
    let end = |i: usize| Some(start + u32_at(COUNT_BYTES + i * 4)?);
    let (mut low, mut high) = (0, rows);
    while low < high {
        let middle = low + (high - low) / 2;
        let begin = if middle == 0 { start } else { end(2 * middle - 1)? };
        let key_end = end(2 * middle)?;
        match block.get(begin..key_end)?.cmp(key) {
            Ordering::Equal => {
                let row = key_end..end(2 * middle + 1)?;
                return block.get(row.clone()).map(|_| InBlock::Row(row));
            }
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    Some(InBlock::Nothing)
}

/// The first key of every block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    first_keys: Vec<u8>,
    ends: Vec<usize>,
}

impl Directory {
    /// The only block that can hold this key; `None` when none can.
    pub(super) fn block_of(&self, key: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.first_key(middle) <= key { low = middle + 1 } else { high = middle }
        }
        low.checked_sub(1)
    }

    fn first_key(&self, block: usize) -> &[u8] {
        let begin = block.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.first_keys[begin..self.ends[block]]
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.ends.len() * 8 + self.first_keys.len());
        let numbers = std::iter::once(self.ends.len()).chain(self.ends.iter().copied()).map(|number| number as u64);
        numbers.for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.extend_from_slice(&self.first_keys);
        bytes
    }

    /// The directory in these bytes; `None` when they are not a directory.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let u64_of = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
        let (blocks, rest) = bytes.split_at_checked(8)?;
        let blocks = usize::try_from(u64_of(blocks)?).ok()?;
        let (ends, first_keys) = rest.split_at_checked(blocks.checked_mul(8)?)?;
        let ends: Vec<usize> = ends.chunks_exact(8).map(|end| usize::try_from(u64_of(end)?).ok()).collect::<Option<_>>()?;
        let is_whole = ends.is_sorted() && ends.last().copied().unwrap_or(0) == first_keys.len();
        is_whole.then(|| Self { first_keys: first_keys.to_vec(), ends })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn built(rows: &std::collections::BTreeMap<Vec<u8>, Vec<u8>>) -> (Vec<Vec<u8>>, Directory) {
        let mut writer = BlocksWriter::default();
        let mut blocks: Vec<_> = rows.iter().filter_map(|(key, row)| writer.push(key, row).unwrap()).collect();
        let (last, directory) = writer.finish();
        blocks.extend(last);
        (blocks, directory)
    }

    proptest! {
        #[test]
        fn what_was_put_in_is_found_and_nothing_else(
            rows in proptest::collection::btree_map(
                proptest::collection::vec(any::<u8>(), 0..6), proptest::collection::vec(any::<u8>(), 0..200), 0..300),
            others in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 0..50),
        ) {
            let (blocks, directory) = built(&rows);
            let directory = Directory::parse(&directory.to_bytes()).unwrap();
            for key in rows.keys().chain(&others) {
                let found = directory.block_of(key).map_or(InBlock::Nothing, |block| find_in_block(&blocks[block], key));
                match rows.get(key) {
                    Some(row) => {
                        let InBlock::Row(at) = found else { panic!("{key:?} is {found:?}") };
                        prop_assert_eq!(&blocks[directory.block_of(key).unwrap()][at], row.as_slice());
                    }
                    None => prop_assert_eq!(found, InBlock::Nothing),
                }
            }
        }

        #[test]
        fn bytes_of_any_kind_make_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), key in any::<[u8; 2]>()) {
            let _ = find_in_block(&bytes, &key);
            if let Some(directory) = Directory::parse(&bytes) {
                directory.block_of(&key);
            }
        }
    }

    #[test]
    fn a_row_that_is_out_of_order_is_refused() {
        for second in ["b", "a"] {
            let mut writer = BlocksWriter::default();
            writer.push(b"b", b"").unwrap();
            assert!(matches!(writer.push(second.as_bytes(), b""), Err(Error::Corrupt { .. })));
        }
    }
}
