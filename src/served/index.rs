//! The hash index of a group: from the hash of a key to the rows that may have it. Whoever asks compares the whole key.
//!
//! It is a table with open addressing, between three eighths and three quarters full. An entry is a part of the hash and the number
//! of a row; 0 is free.

use twox_hash::XxHash64;

use crate::error::{Error, Result};

/// Bytes of an entry.
const ENTRY: usize = 8;

/// The hash of a key's bytes. It is part of the file's layout.
pub(crate) fn hash(key: &[u8]) -> u64 {
    XxHash64::oneshot(0, key)
}

#[derive(Debug)]
pub(super) struct Index {
    entries: Vec<u64>,
}

impl Index {
    /// How many entries an index of so many rows has.
    ///
    /// # Errors
    /// [`Error::Limit`] beyond 2^32 - 2 rows.
    fn entries_for(rows: u64) -> Result<usize> {
        let refused = || Error::Limit {
            subject: format!("a materialization of {rows} rows"),
            reason: "has more rows than can be served by key, which are 4,294,967,294".into(),
        };
        let rows = u32::try_from(rows).ok().filter(|rows| *rows < u32::MAX).ok_or_else(refused)?;
        usize::try_from((u64::from(rows) * 4 / 3 + 2).next_power_of_two()).map_err(|_| refused())
    }

    /// Bytes of the index of so many rows.
    pub(super) fn bytes_for(rows: u64) -> Result<u64> {
        Ok((Self::entries_for(rows)? * ENTRY) as u64)
    }

    /// An index for so many rows, empty.
    pub(super) fn for_rows(rows: u64) -> Result<Self> {
        Ok(Self { entries: vec![0; Self::entries_for(rows)?] })
    }

    /// Adds a row; there must be room for it.
    pub(super) fn insert(&mut self, hash: u64, row: u32) {
        let mask = self.entries.len() - 1;
        let mut at = home(hash) & mask;
        while self.entries[at] != 0 {
            at = (at + 1) & mask;
        }
        self.entries[at] = hash << 32 | (u64::from(row) + 1);
    }

    /// The rows whose key may have this hash.
    pub(super) fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> {
        let mask = self.entries.len() - 1;
        let mut at = home(hash) & mask;
        // At least a quarter of the entries is free in an index that was built; a damaged one is refused by its checksum.
        let entries = (0..=mask).map_while(move |_| {
            let entry = self.entries[at];
            at = (at + 1) & mask;
            (entry != 0).then_some(entry)
        });
        let tag = hash << 32;
        entries.filter(move |entry| entry & !u64::from(u32::MAX) == tag).map(|entry| (entry as u32).wrapping_sub(1))
    }

    /// Bytes of memory.
    pub(super) fn held(&self) -> usize {
        self.entries.len() * ENTRY
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
    }

    /// The index in these bytes; `None` for a number of entries that no index has.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let entries: Vec<u64> = bytes.chunks_exact(ENTRY).map(|entry| entry.try_into().map_or(0, u64::from_le_bytes)).collect();
        (bytes.len().is_multiple_of(ENTRY) && entries.len().is_power_of_two()).then_some(Self { entries })
    }
}

fn home(hash: u64) -> usize {
    (hash >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_among_the_candidates_of_its_key_and_an_unknown_key_has_few() {
        for rows in [0_u32, 1, 2, 3, 1_000] {
            let mut index = Index::for_rows(rows.into()).unwrap();
            (0..rows).for_each(|row| index.insert(hash(&row.to_le_bytes()), row));
            let index = Index::from_bytes(&index.to_bytes()).unwrap();
            assert_eq!(index.to_bytes().len() as u64, Index::bytes_for(rows.into()).unwrap());
            for row in 0..rows {
                assert!(index.candidates(hash(&row.to_le_bytes())).any(|found| found == row));
            }
            let strangers = (rows..rows + 1_000).flat_map(|row| index.candidates(hash(&row.to_le_bytes())));
            assert!(strangers.count() < 2);
        }
        assert!(Index::from_bytes(&[0; 24]).is_none() && Index::from_bytes(&[0; 12]).is_none());
        assert!(Index::for_rows(u64::from(u32::MAX)).is_err());
    }

    #[test]
    fn rows_of_one_hash_are_all_candidates() {
        let mut index = Index::for_rows(5).unwrap();
        (0..5).for_each(|row| index.insert(77, row));
        assert_eq!(index.candidates(77).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}
