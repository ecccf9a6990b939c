//! Finds how deep the schema in a Parquet footer is nested, without decoding it: decoders recurse into it, and a stack overflow
//! ends the process.
//! Damaged footers are left to the decoder.

/// The most levels of a schema that are read. An Arrow list takes two or three of them.
pub(super) const MAX_LEVELS: usize = 50;
/// The bytes after a footer: its length and the magic number.
const TAIL_BYTES: usize = 8;
/// The deepest nesting of structures that is skipped.
const MAX_PASSED: usize = 64;

/// The bytes of the footer, given a whole Parquet file or its end. If there are fewer bytes, how many the end must have, if
/// that is known.
pub(super) fn footer_bytes(end: &[u8]) -> Result<&[u8], Option<usize>> {
    let tail = end.len().checked_sub(TAIL_BYTES).ok_or(None)?;
    let length = end.get(tail..tail + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes).ok_or(None)?;
    match tail.checked_sub(length as usize) {
        Some(start) => end.get(start..tail).ok_or(None),
        None => Err(Some(length as usize + TAIL_BYTES)),
    }
}

/// Is the schema of this footer nested deeper than [`MAX_LEVELS`]?
///
/// A footer is a `FileMetaData` of parquet.thrift in Thrift's compact protocol. Its second field is the schema, a list of
/// elements in the order in which a tree is walked; the fifth field of an element is the number of its children.
pub(super) fn is_too_deep(footer: &[u8]) -> bool {
    let mut compact = Compact(footer);
    let mut field = 0;
    loop {
        match compact.field(&mut field) {
            Some(LIST) if field == 2 => return compact.deepest().is_some_and(|levels| levels > MAX_LEVELS),
            Some(kind) => {
                if compact.pass(kind, 0).is_none() {
                    return false;
                }
            }
            None => return false,
        }
    }
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// The rest of some bytes in Thrift's compact protocol. Methods return `None` for bytes that do not follow it.
struct Compact<'a>(&'a [u8]);

impl Compact<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The kind of the next field, whose number is written to `field`; `None` at the end of the structure.
    fn field(&mut self, field: &mut i64) -> Option<u8> {
        let header = self.byte().filter(|header| *header != 0)?;
        *field = match header >> 4 {
            0 => self.signed()?,
            delta => field.checked_add(delta.into())?,
        };
        Some(header & 0x0f)
    }

    /// The kind of a list's items, and how many there are.
    fn list(&mut self) -> Option<(u8, u64)> {
        let header = self.byte()?;
        let count = if header >> 4 == 15 { self.unsigned()? } else { (header >> 4).into() };
        Some((header & 0x0f, count))
    }

    fn pass(&mut self, kind: u8, within: usize) -> Option<()> {
        if within > MAX_PASSED {
            return None;
        }
        match kind {
            TRUE | FALSE => Some(()),
            BYTE => self.skip(1),
            I16 | I32 | I64 => self.unsigned().map(|_| ()),
            DOUBLE => self.skip(8),
            BINARY => {
                let length = self.unsigned()?;
                self.skip(length)
            }
            LIST | SET => {
                let (kind, count) = self.list()?;
                // Booleans in a list take a byte each.
                let kind = if matches!(kind, TRUE | FALSE) { BYTE } else { kind };
                (0..count).try_for_each(|_| self.pass(kind, within + 1))
            }
            MAP => {
                let count = self.unsigned()?;
                if count == 0 {
                    return Some(());
                }
                let kinds = self.byte()?;
                (0..count).try_for_each(|_| {
                    self.pass(kinds >> 4, within + 1)?;
                    self.pass(kinds & 0x0f, within + 1)
                })
            }
            STRUCT => {
                let mut field = 0;
                while let Some(kind) = self.field(&mut field) {
                    self.pass(kind, within + 1)?;
                }
                Some(())
            }
            _ => None,
        }
    }

    /// The levels of a list of schema elements.
    fn deepest(&mut self) -> Option<usize> {
        let (STRUCT, count) = self.list()? else { return None };
        // The number of children left to read, by level.
        let mut open: Vec<i64> = Vec::new();
        let mut deepest = 0;
        for _ in 0..count {
            let (mut field, mut children) = (0, 0);
            while let Some(kind) = self.field(&mut field) {
                match (field, kind) {
                    (5, I32) => children = self.signed()?,
                    _ => self.pass(kind, 0)?,
                }
            }
            while open.last().is_some_and(|left| *left <= 0) {
                open.pop();
            }
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            deepest = deepest.max(open.len());
            if deepest > MAX_LEVELS {
                break;
            }
            if children > 0 {
                open.push(children);
            }
        }
        Some(deepest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{Array, ArrayRef, Int64Array, RecordBatch, StructArray},
        datatypes::{Field, Fields},
    };
    use parquet::arrow::ArrowWriter;

    use super::*;

    /// Writers recurse into the schema, and need a larger stack than test threads have.
    fn file(levels: usize) -> Vec<u8> {
        std::thread::Builder::new().stack_size(64 << 20).spawn(move || written(levels)).unwrap().join().unwrap()
    }

    fn written(levels: usize) -> Vec<u8> {
        let mut nested: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        for _ in 1..levels {
            let field = Arc::new(Field::new("x", nested.data_type().clone(), true));
            nested = Arc::new(StructArray::new(Fields::from(vec![field]), vec![nested], None));
        }
        let one: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        let rows = RecordBatch::try_from_iter([("a", one.clone()), ("nested", nested), ("b", one)]).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
        bytes
    }

    #[test]
    fn levels_are_counted_as_the_schema_has_them() {
        for levels in [1, 2, 20, MAX_LEVELS, MAX_LEVELS + 1] {
            let bytes = file(levels);
            let footer = footer_bytes(&bytes).unwrap();
            assert_eq!(is_too_deep(footer), levels > MAX_LEVELS, "{levels}");
            let mut compact = Compact(footer);
            let mut field = 0;
            while compact.field(&mut field) != Some(LIST) {
                compact.pass(I32, 0).unwrap();
            }
            assert_eq!(compact.deepest(), Some(levels));
            // Of the end alone, and of less than that.
            let end = &bytes[bytes.len() - footer.len() - TAIL_BYTES..];
            assert_eq!(footer_bytes(end).unwrap(), footer);
            assert_eq!(footer_bytes(&end[1..]), Err(Some(end.len())));
        }
    }

    #[test]
    fn bytes_that_make_no_sense_are_left_to_the_decoder() {
        let bytes = file(3);
        let footer = footer_bytes(&bytes).unwrap();
        for at in 0..footer.len() {
            for byte in [0, 0x19, 0x1c, 0x7f, 0x80, 0xff] {
                let mut damaged = footer.to_vec();
                damaged[at] = byte;
                is_too_deep(&damaged);
                is_too_deep(&damaged[..at]);
            }
        }
        assert!(!is_too_deep(&[0x1c; 10_000]));
        assert_eq!(footer_bytes(b"PAR1"), Err(None));
    }
}
