//! The file of a served materialization, from its start to its end:
//!
//! ```text
//! for each group: index | rows, each of the same width | heap
//! footer, as JSON | checksum of the footer u32 | length of the footer u32 | "asofrows"
//! ```
//!
//! The footer is written last, so a file that was cut off has none. It holds the checksum of each index. Each row has one of its own,
//! which holds for its materialization, group and number alone.

use serde::{Deserialize, Serialize};

use crate::name::ContentId;

/// The version of this layout. A file of another one is written anew.
pub(super) const LAYOUT: u32 = 1;
pub(super) const MAGIC: &[u8; 8] = b"asofrows";
/// Bytes after the footer.
pub(super) const TAIL: usize = 16;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Footer {
    pub(super) layout: u32,
    /// The materialization.
    pub(super) id: ContentId,
    pub(super) groups: Vec<GroupFooter>,
    /// Where the footer begins.
    pub(super) at: u64,
}

/// A group of rows: those under the whole key of a set come first, those under a part of it follow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct GroupFooter {
    pub(super) rows: u64,
    pub(super) row_bytes: usize,
    pub(super) index_at: u64,
    pub(super) index_bytes: u64,
    pub(super) index_checksum: u32,
    pub(super) rows_at: u64,
    pub(super) heap_at: u64,
    pub(super) heap_bytes: u64,
}

impl Footer {
    /// The footer and what follows it.
    pub(super) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX).to_le_bytes();
        Ok([json.as_slice(), &crc32fast::hash(&json).to_le_bytes(), &length, MAGIC].concat())
    }

    /// The length of the footer, from the last [`TAIL`] bytes of a file; `None` if the file has none.
    pub(super) fn length(tail: &[u8; TAIL]) -> Option<usize> {
        let length = u32::from_le_bytes(tail[4..8].try_into().ok()?);
        (tail[8..] == *MAGIC).then_some(length as usize)
    }

    /// The footer in these bytes, checked against the end of its file and the checksum there.
    pub(super) fn parse(json: &[u8], tail: &[u8; TAIL], at: u64) -> Option<Self> {
        let footer: Self = (crc32fast::hash(json).to_le_bytes() == tail[..4]).then(|| serde_json::from_slice(json).ok())??;
        (footer.layout == LAYOUT && footer.at == at).then_some(footer)
    }
}
