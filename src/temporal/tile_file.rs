//! The bytes of a tile: a head, what each source keeps of a file of facts, and a checksum of all of it.
//! Bytes that are damaged, cut off or those of another tile are no tile; they are never an error.
//!
//! ```text
//! "ASOFTILE"; format: u32; identity: 32 bytes; facts, first and last event time, last tick of becoming visible: 8 bytes each
//! for each source: keys and perhaps newest rows, as Parquet; perhaps the slices of its windows
//! BLAKE3 of all bytes before: 32 bytes
//! ```

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    compute::concat_batches,
    datatypes::{Field, Schema},
};
use bytes::Bytes;
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};

use crate::{
    error::{Error, Result},
    name::ContentId,
    numeric::{NumberReader, NumberWriter},
    storage::contained,
    workspace::part_properties,
};

const MAGIC: &[u8; 8] = b"ASOFTILE";
/// The version of these bytes. It is part of a tile's identity, so those of another version are passed over.
pub(crate) const TILE_FORMAT: u32 = 1;
const CHECKSUM_BYTES: usize = 32;

/// What a tile says of its facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TileHead {
    pub(super) facts: u64,
    /// The first and the last event time, in ticks. Without a fact the first is after the last.
    pub(super) events: (i64, i64),
    /// The tick from which all of them are visible.
    pub(super) visible_from: i64,
}

impl TileHead {
    /// That of no fact.
    pub(super) fn empty() -> Self {
        Self { facts: 0, events: (i64::MAX, i64::MIN), visible_from: i64::MIN }
    }
}

/// The bytes of a tile with this identity.
pub(super) fn sealed(id: ContentId, head: &TileHead, body: &NumberWriter) -> Vec<u8> {
    let mut to = NumberWriter { bytes: Vec::with_capacity(body.bytes.len() + 128) };
    to.bytes.extend_from_slice(MAGIC);
    to.bytes.extend_from_slice(&TILE_FORMAT.to_le_bytes());
    to.bytes.extend_from_slice(id.as_bytes());
    [head.facts, head.events.0 as u64, head.events.1 as u64, head.visible_from as u64].into_iter().for_each(|word| to.word(word));
    to.bytes.extend_from_slice(&body.bytes);
    let checksum = ContentId::of(&to.bytes);
    to.bytes.extend_from_slice(checksum.as_bytes());
    to.bytes
}

/// The head and the body of a tile; `None` for bytes that are not an undamaged tile with this identity.
pub(super) fn opened(id: ContentId, bytes: &[u8]) -> Option<(TileHead, NumberReader<'_>)> {
    let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    if checksum != ContentId::of(content).as_bytes() {
        return None;
    }
    let content = content.strip_prefix(MAGIC)?.strip_prefix(&TILE_FORMAT.to_le_bytes())?.strip_prefix(id.as_bytes())?;
    let mut from = NumberReader::new(content);
    let facts = from.word()?;
    let events = (from.word()? as i64, from.word()? as i64);
    let visible_from = from.word()? as i64;
    Some((TileHead { facts, events, visible_from }, from))
}

/// Columns of one length as Parquet; `None` if they do not come back from it as they are.
pub(super) fn stored_rows(columns: Vec<(String, ArrayRef)>) -> Option<Vec<u8>> {
    let fields: Vec<Field> = columns.iter().map(|(name, column)| Field::new(name, column.data_type().clone(), true)).collect();
    let rows =
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect()).ok()?;
    let written = || -> Result<Vec<u8>> {
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(part_properties(&rows)))?;
        writer.write(&rows)?;
        Ok(writer.into_inner()?)
    };
    let bytes = contained("a tile", written).ok()?;
    let found = loaded_rows(&bytes)?;
    (found.columns() == rows.columns()).then_some(bytes)
}

/// The columns of [`stored_rows`]; `None` if the bytes are none.
pub(super) fn loaded_rows(bytes: &[u8]) -> Option<RecordBatch> {
    let read = || -> Result<RecordBatch> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(bytes))?;
        let (schema, count) = (builder.schema().clone(), builder.metadata().file_metadata().num_rows());
        let batches = builder.with_batch_size(usize::try_from(count).unwrap_or(1).max(1)).build()?;
        Ok(concat_batches(&schema, &batches.collect::<std::result::Result<Vec<_>, _>>().map_err(Error::from)?)?)
    };
    contained("a tile", read).ok()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, StringArray};

    use super::*;

    #[test]
    fn any_change_of_a_byte_and_any_cut_makes_it_no_tile() {
        let (id, head) = (ContentId::of(b"x"), TileHead { facts: 3, events: (-5, 9), visible_from: 10 });
        let mut body = NumberWriter::default();
        body.slice(b"abc");
        let bytes = sealed(id, &head, &body);
        let (found, mut from) = opened(id, &bytes).unwrap();
        assert_eq!((found, from.slice(), from.is_at_end()), (head, Some(b"abc".as_slice()), true));
        assert!(opened(ContentId::of(b"y"), &bytes).is_none());
        for i in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[i] ^= 1;
            assert!(opened(id, &damaged).is_none() && opened(id, &bytes[..i]).is_none(), "{i}");
        }
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let columns: Vec<(String, ArrayRef)> = vec![
            ("v".into(), Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(-0.0), None]))),
            ("t".into(), Arc::new(StringArray::from(vec![Some(""), None, Some("Z\u{fc}rich")]))),
        ];
        let bytes = stored_rows(columns.clone()).unwrap();
        let rows = loaded_rows(&bytes).unwrap();
        assert!(columns.iter().zip(rows.columns()).all(|((_, column), found)| column == found));
        let none = stored_rows(columns.into_iter().map(|(name, column)| (name, column.slice(0, 0))).collect()).unwrap();
        assert_eq!(loaded_rows(&none).unwrap().num_rows(), 0);
        assert!(loaded_rows(b"PAR1").is_none());
    }
}
