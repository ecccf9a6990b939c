//! How a row is laid out as bytes: a part of fixed width, and a heap for texts, bytes and nested values.
//!
//! The fixed part, little-endian:
//!
//! ```text
//! checksum of the rest u32, which begins with the row's place (see `RowPlace`)
//! | first byte in the heap u64, checksum of the heap's bytes u32      if any column is in the heap
//! | key, or its end in the heap u32 | a bit for each NULL | a slot for each value
//! ```
//!
//! A slot holds the value as Arrow does, or the end of its bytes in the heap. The heap of a row holds its key, if that has no fixed
//! width, and then its values in their order. Ends count from the row's first byte in the heap.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
    row::{RowConverter, Rows as PackedRows, SortField},
};

use crate::{
    error::{Error, Result},
    name::ContentId,
};

const CHECKSUM: usize = 4;
const HEAP_HEAD: usize = 12;
const END: usize = 4;

/// What a slot holds.
#[derive(Debug)]
pub(super) enum Form {
    /// A byte, 0 or 1.
    Bool,
    /// The bytes of a value of this width.
    Fixed(usize),
    /// The end of a text or of bytes in the heap.
    Bytes,
    /// The end of a value in Arrow's row format in the heap.
    Packed(RowConverter),
}

impl Form {
    fn of(field: &Field) -> Result<Self> {
        Ok(match field.data_type() {
            DataType::Boolean => Form::Bool,
            DataType::FixedSizeBinary(width) => Form::Fixed(usize::try_from(*width).unwrap_or(0)),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => Form::Bytes,
            other => match other.primitive_width() {
                Some(width) => Form::Fixed(width),
                None => Form::Packed(RowConverter::new(vec![SortField::new(other.clone())])?),
            },
        })
    }

    /// The width of a value that is not in the heap.
    pub(super) fn width(&self) -> Option<usize> {
        match self {
            Form::Bool => Some(1),
            Form::Fixed(width) => Some(*width),
            Form::Bytes | Form::Packed(_) => None,
        }
    }
}

/// A column of a row.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) form: Form,
    /// Where it begins in the fixed part.
    pub(super) at: usize,
    /// For a value in the heap: its number among these.
    pub(super) in_heap: Option<usize>,
    pub(super) number: NumberForm,
}

/// How a slot is read as a float.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberForm {
    Float64,
    Float32,
    Int64,
    Int32,
    Bool,
    /// By way of an array.
    Converted,
    /// It is no number.
    None,
}

impl NumberForm {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Float64 => NumberForm::Float64,
            DataType::Float32 => NumberForm::Float32,
            DataType::Int64 => NumberForm::Int64,
            DataType::Int32 => NumberForm::Int32,
            DataType::Boolean => NumberForm::Bool,
            other if other.is_numeric() => NumberForm::Converted,
            _ => NumberForm::None,
        }
    }
}

/// The layout of the rows of one group.
#[derive(Debug)]
pub(crate) struct RowLayout {
    /// The positions of key and values in the published rows.
    key_columns: Vec<usize>,
    value_columns: Vec<usize>,
    key_schema: SchemaRef,
    value_schema: SchemaRef,
    pub(super) keys: Vec<Form>,
    /// The width of the key, unless a part of it is in the heap.
    key_width: Option<usize>,
    pub(super) slots: Vec<Slot>,
    /// The slots of values in the heap, in order.
    heap_slots: Vec<usize>,
    pub(super) nulls_at: usize,
    row_bytes: usize,
}

/// A row as bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(super) fixed: Vec<u8>,
    pub(super) heap: Vec<u8>,
}

impl Row {
    /// No bytes.
    pub(crate) const EMPTY: Self = Self { fixed: Vec::new(), heap: Vec::new() };

    /// Becomes a copy of another row, in the memory that it has.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.fixed.clone_from(&other.fixed);
        self.heap.clone_from(&other.heap);
    }

    pub(crate) fn as_ref(&self) -> RowRef<'_> {
        RowRef { fixed: &self.fixed, heap: &self.heap }
    }
}

/// The bytes of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowRef<'a> {
    pub(super) fixed: &'a [u8],
    pub(super) heap: &'a [u8],
}

/// Several rows of one layout, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    fixed: Vec<u8>,
    heap: Vec<u8>,
    /// For each row the end of its bytes in the heap.
    heap_ends: Vec<usize>,
    row_bytes: usize,
}

impl Rows {
    /// Room for so many rows.
    pub(crate) fn with_capacity(layout: &RowLayout, rows: usize) -> Self {
        let row_bytes = layout.row_bytes();
        Self { fixed: Vec::with_capacity(rows * row_bytes), heap: Vec::new(), heap_ends: Vec::with_capacity(rows), row_bytes }
    }

    pub(crate) fn push(&mut self, row: &Row) {
        self.fixed.extend_from_slice(&row.fixed);
        self.heap.extend_from_slice(&row.heap);
        self.heap_ends.push(self.heap.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.heap_ends.len()
    }

    /// The fixed parts.
    pub(super) fn fixed(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        self.fixed.chunks_exact(self.row_bytes)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = RowRef<'_>> + Clone {
        let mut begin = 0;
        self.fixed().zip(&self.heap_ends).map(move |(fixed, &end)| {
            let heap = &self.heap[begin..end];
            begin = end;
            RowRef { fixed, heap }
        })
    }
}

/// Where a row is: the checksum of a row holds for its own place only, so rows that were moved within a file, or came from the file of
/// another materialization, count as damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowPlace {
    /// A hash of the materialization and the group.
    group: u32,
    row: u64,
}

impl RowPlace {
    /// The first row of a group.
    pub(super) fn first_of(id: ContentId, group: usize) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(id.as_bytes());
        hasher.update(&(group as u64).to_le_bytes());
        Self { group: hasher.finalize(), row: 0 }
    }

    pub(super) fn plus(self, rows: u64) -> Self {
        Self { row: self.row + rows, ..self }
    }

    /// The checksum of a row's fixed part, without the checksum itself.
    fn checksum(self, rest: &[u8]) -> [u8; CHECKSUM] {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.group);
        hasher.update(&self.row.to_le_bytes());
        hasher.update(rest);
        hasher.finalize().to_le_bytes()
    }
}

/// Rows of a batch as bytes.
#[derive(Debug, Default)]
pub(super) struct EncodedRows {
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) fixed: Vec<u8>,
    pub(super) heap: Vec<u8>,
}

impl RowLayout {
    /// The layout of rows with these columns, found by the columns `keys`.
    ///
    /// # Errors
    /// What Arrow's row format fails with, for a type that it cannot hold.
    pub(crate) fn new(keys: &[String], schema: &Schema) -> Result<Self> {
        let key_columns: Vec<usize> = keys.iter().map(|key| Ok(schema.index_of(key)?)).collect::<Result<_>>()?;
        let value_columns: Vec<usize> = (0..schema.fields().len()).filter(|i| !key_columns.contains(i)).collect();
        let (key_schema, value_schema) = (Arc::new(schema.project(&key_columns)?), Arc::new(schema.project(&value_columns)?));
        let keys: Vec<Form> = key_schema.fields().iter().map(|field| Form::of(field)).collect::<Result<_>>()?;
        let forms: Vec<Form> = value_schema.fields().iter().map(|field| Form::of(field)).collect::<Result<_>>()?;
        let key_width = keys.iter().map(Form::width).sum::<Option<usize>>();
        let has_heap = key_width.is_none() || forms.iter().any(|form| form.width().is_none());
        let key_at = CHECKSUM + if has_heap { HEAP_HEAD } else { 0 };
        let nulls_at = key_at + key_width.unwrap_or(END);
        let mut at = nulls_at + forms.len().div_ceil(8);
        let (mut slots, mut heap_slots) = (Vec::with_capacity(forms.len()), Vec::new());
        for (i, form) in forms.into_iter().enumerate() {
            let in_heap = form.width().is_none().then(|| {
                heap_slots.push(i);
                heap_slots.len() - 1
            });
            let width = form.width().unwrap_or(END);
            let number = NumberForm::of(value_schema.field(i).data_type());
            slots.push(Slot { form, at, in_heap, number });
            at += width;
        }
        Ok(Self {
            key_columns,
            value_columns,
            key_schema,
            value_schema,
            keys,
            key_width,
            slots,
            heap_slots,
            nulls_at,
            row_bytes: at,
        })
    }

    /// The key's columns.
    pub(crate) fn key_schema(&self) -> &SchemaRef {
        &self.key_schema
    }

    /// The other columns.
    pub(crate) fn value_schema(&self) -> &SchemaRef {
        &self.value_schema
    }

    /// Bytes of the fixed part of a row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    pub(super) fn has_heap(&self) -> bool {
        self.key_width.is_none() || !self.heap_slots.is_empty()
    }

    fn key_at(&self) -> usize {
        CHECKSUM + if self.has_heap() { HEAP_HEAD } else { 0 }
    }

    /// Whether the key is in the heap.
    pub(super) fn key_in_heap(&self) -> bool {
        self.key_width.is_none()
    }

    /// Whether the fixed part is as it was written to this place.
    pub(super) fn is_whole(fixed: &[u8], place: RowPlace) -> bool {
        fixed.split_at_checked(CHECKSUM).is_some_and(|(sum, rest)| place.checksum(rest) == sum)
    }

    /// Where the row's bytes begin in the heap, and how many there are.
    pub(super) fn heap_range(&self, fixed: &[u8]) -> (u64, usize) {
        let last = self.heap_slots.last().map(|&slot| self.slots[slot].at);
        let at = last.unwrap_or_else(|| self.key_at());
        (u64::from_le_bytes(array_at(fixed, CHECKSUM)), u32_at(fixed, at) as usize)
    }

    /// Whether the heap's bytes are those that belong to the fixed part.
    pub(super) fn is_heap_whole(&self, row: &Row) -> bool {
        u32::from_le_bytes(array_at(&row.fixed, CHECKSUM + 8)) == crc32fast::hash(&row.heap)
    }

    /// The key's bytes; `None` for a damaged row.
    pub(super) fn key<'a>(&self, fixed: &'a [u8], heap: &'a [u8]) -> Option<&'a [u8]> {
        let at = self.key_at();
        match self.key_width {
            Some(width) => fixed.get(at..at + width),
            None => heap.get(..u32_at(fixed, at) as usize),
        }
    }

    pub(super) fn is_null(&self, fixed: &[u8], column: usize) -> bool {
        fixed[self.nulls_at + column / 8] >> (column % 8) & 1 == 1
    }

    /// The bytes of a value.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the row's ends contradict each other.
    pub(super) fn bytes<'a>(&self, row: RowRef<'a>, column: usize) -> Result<&'a [u8]> {
        let slot = &self.slots[column];
        let found = match (slot.form.width(), slot.in_heap) {
            (Some(width), _) => row.fixed.get(slot.at..slot.at + width),
            (None, in_heap) => {
                let before =
                    in_heap.and_then(|number| number.checked_sub(1)).map(|number| self.slots[self.heap_slots[number]].at);
                let begin = match before {
                    Some(at) => u32_at(row.fixed, at),
                    None if self.key_in_heap() => u32_at(row.fixed, self.key_at()),
                    None => 0,
                };
                row.heap.get(begin as usize..u32_at(row.fixed, slot.at) as usize)
            }
        };
        found.ok_or_else(|| Error::Corrupt {
            path: "a served row".into(),
            reason: "its bytes contradict each other; delete the cache directory, which is rebuilt".into(),
        })
    }

    /// The rows of a batch with the columns of the published rows, of which the first comes to this place. `heap_at` is where their
    /// heap begins.
    ///
    /// # Errors
    /// [`Error::Limit`] for a row with more than 4 GiB of texts.
    pub(super) fn encode(&self, batch: &RecordBatch, first: RowPlace, heap_at: u64) -> Result<EncodedRows> {
        let columns = |positions: &[usize]| -> Vec<ArrayRef> { positions.iter().map(|&i| batch.column(i).clone()).collect() };
        let keys = key_bytes(&self.keys, &columns(&self.key_columns), batch.num_rows())?;
        // A published row has a whole key.
        let keys: Vec<Vec<u8>> = keys.into_iter().map(Option::unwrap_or_default).collect();
        let mut encoded = self.encode_values(keys, &columns(&self.value_columns), heap_at)?;
        for (number, row) in (0..).zip(encoded.fixed.chunks_exact_mut(self.row_bytes)) {
            let sum = first.plus(number).checksum(&row[CHECKSUM..]);
            put(row, 0, &sum);
        }
        Ok(encoded)
    }

    /// One row without a key and without a checksum.
    pub(crate) fn row_of(&self, values: &[ArrayRef]) -> Result<Row> {
        let EncodedRows { fixed, heap, .. } = self.encode_values(vec![self.no_key()], values, 0)?;
        Ok(Row { fixed, heap })
    }

    fn no_key(&self) -> Vec<u8> {
        vec![0; self.key_width.unwrap_or(0)]
    }

    fn encode_values(&self, keys: Vec<Vec<u8>>, columns: &[ArrayRef], heap_at: u64) -> Result<EncodedRows> {
        let (rows, width) = (keys.len(), self.row_bytes);
        let mut fixed = vec![0; rows * width];
        for (i, (slot, column)) in self.slots.iter().zip(columns).enumerate() {
            if column.null_count() > 0 {
                for row in (0..rows).filter(|&row| column.is_null(row)) {
                    fixed[row * width + self.nulls_at + i / 8] |= 1 << (i % 8);
                }
            }
            put_fixed(slot, column, &mut fixed, width);
        }
        let in_heap: Vec<(usize, HeapColumn<'_>)> = self
            .heap_slots
            .iter()
            .map(|&i| Ok((self.slots[i].at, HeapColumn::new(&self.slots[i].form, &columns[i])?)))
            .collect::<Result<_>>()?;
        let (key_at, mut heap) = (self.key_at(), Vec::new());
        for (number, (row, key)) in fixed.chunks_exact_mut(width).zip(&keys).enumerate() {
            if self.has_heap() {
                let start = heap.len();
                put(row, CHECKSUM, &(heap_at + start as u64).to_le_bytes());
                if self.key_in_heap() {
                    heap.extend_from_slice(key);
                    put(row, key_at, &end_of(heap.len() - start)?);
                }
                for (at, column) in &in_heap {
                    heap.extend_from_slice(column.bytes(number));
                    put(row, *at, &end_of(heap.len() - start)?);
                }
                put(row, CHECKSUM + 8, &crc32fast::hash(&heap[start..]).to_le_bytes());
            }
            if !self.key_in_heap() {
                put(row, key_at, key);
            }
        }
        Ok(EncodedRows { keys, fixed, heap })
    }

    /// These values of rows of several layouts as one row without a key: for each column the layout, the row and the column there.
    pub(crate) fn assemble(&self, values: &[(&RowLayout, &Row, usize)]) -> Result<Row> {
        let mut row = Row { fixed: vec![0; self.row_bytes], heap: Vec::new() };
        if self.key_width.is_some() {
            put(&mut row.fixed, self.key_at(), &self.no_key());
        }
        for (i, ((from, source, column), slot)) in values.iter().zip(&self.slots).enumerate() {
            if from.is_null(&source.fixed, *column) {
                row.fixed[self.nulls_at + i / 8] |= 1 << (i % 8);
            } else if slot.in_heap.is_none() {
                put(&mut row.fixed, slot.at, from.bytes(source.as_ref(), *column)?);
            } else {
                row.heap.extend_from_slice(from.bytes(source.as_ref(), *column)?);
            }
            if slot.in_heap.is_some() {
                put(&mut row.fixed, slot.at, &end_of(row.heap.len())?);
            }
        }
        Ok(row)
    }

    /// Makes a value NULL. The checksum is not made again: it is for rows in a file.
    pub(crate) fn set_null(&self, row: &mut Row, column: usize) {
        row.fixed[self.nulls_at + column / 8] |= 1 << (column % 8);
    }
}

/// Copies the values of a column that is not in the heap into their slots; those that are NULL stay zero.
fn put_fixed(slot: &Slot, column: &ArrayRef, rows: &mut [u8], width: usize) {
    fn copy<const N: usize>(values: &[u8], at: usize, column: &ArrayRef, rows: &mut [u8], width: usize) {
        let has_nulls = column.null_count() > 0;
        for (i, (row, value)) in rows.chunks_exact_mut(width).zip(values.chunks_exact(N)).enumerate() {
            if !has_nulls || column.is_valid(i) {
                row[at..at + N].copy_from_slice(value);
            }
        }
    }
    match slot.form {
        Form::Bool => {
            for (i, row) in rows.chunks_exact_mut(width).enumerate().filter(|(i, _)| column.is_valid(*i)) {
                row[slot.at] = u8::from(column.as_boolean().value(i));
            }
        }
        Form::Fixed(bytes) => {
            let data = column.to_data();
            let values = data.buffers().first().map_or(&[][..], |buffer| &buffer.as_slice()[data.offset() * bytes..]);
            match bytes {
                8 => copy::<8>(values, slot.at, column, rows, width),
                4 => copy::<4>(values, slot.at, column, rows, width),
                0 => {}
                _ => {
                    for (i, (row, value)) in rows.chunks_exact_mut(width).zip(values.chunks_exact(bytes)).enumerate() {
                        if column.is_valid(i) {
                            put(row, slot.at, value);
                        }
                    }
                }
            }
        }
        Form::Bytes | Form::Packed(_) => {}
    }
}

/// A column whose values go into the heap.
enum HeapColumn<'a> {
    Plain(&'a ArrayRef),
    Packed(PackedRows, &'a ArrayRef),
}

impl<'a> HeapColumn<'a> {
    fn new(form: &Form, column: &'a ArrayRef) -> Result<Self> {
        Ok(match form {
            Form::Packed(converter) => HeapColumn::Packed(converter.convert_columns(std::slice::from_ref(column))?, column),
            _ => HeapColumn::Plain(column),
        })
    }

    /// The bytes of a value; none for NULL.
    fn bytes(&self, row: usize) -> &[u8] {
        match self {
            HeapColumn::Plain(column) | HeapColumn::Packed(_, column) if column.is_null(row) => &[],
            HeapColumn::Packed(rows, _) => rows.row(row).data(),
            HeapColumn::Plain(column) => match column.data_type() {
                DataType::Utf8 => column.as_string::<i32>().value(row).as_bytes(),
                DataType::LargeUtf8 => column.as_string::<i64>().value(row).as_bytes(),
                DataType::LargeBinary => column.as_binary::<i64>().value(row),
                _ => column.as_binary_opt::<i32>().map_or(&[], |column| column.value(row)),
            },
        }
    }
}

/// The bytes of each key, in columns of the key's types; `None` for a key with a NULL. Equal keys have equal bytes: values of fixed
/// width as Arrow holds them, others after their length.
pub(super) fn key_bytes(forms: &[Form], columns: &[ArrayRef], rows: usize) -> Result<Vec<Option<Vec<u8>>>> {
    let width = forms.iter().map(|form| form.width().unwrap_or(16)).sum();
    let mut keys: Vec<Option<Vec<u8>>> = (0..rows).map(|_| Some(Vec::with_capacity(width))).collect();
    for (form, column) in forms.iter().zip(columns) {
        let in_heap = if form.width().is_none() { Some(HeapColumn::new(form, column)?) } else { None };
        let data = column.to_data();
        for (row, key) in keys.iter_mut().enumerate() {
            let Some(bytes) = key else { continue };
            if column.is_null(row) {
                *key = None;
                continue;
            }
            match (form, &in_heap) {
                (Form::Bool, _) => bytes.push(u8::from(column.as_boolean().value(row))),
                (Form::Fixed(width), _) => {
                    let at = (data.offset() + row) * width;
                    bytes.extend_from_slice(data.buffers().first().map_or(&[], |buffer| &buffer.as_slice()[at..at + width]));
                }
                (_, in_heap) => {
                    let value = in_heap.as_ref().map_or(&[][..], |column| column.bytes(row));
                    bytes.extend_from_slice(&end_of(value.len())?);
                    bytes.extend_from_slice(value);
                }
            }
        }
    }
    Ok(keys)
}

/// A length or an end within a row, as bytes.
pub(super) fn end_of(bytes: usize) -> Result<[u8; END]> {
    u32::try_from(bytes).map(u32::to_le_bytes).map_err(|_| Error::Limit {
        subject: "a row that is served".into(),
        reason: "has more than 4 GiB of texts and lists".into(),
    })
}

fn put(row: &mut [u8], at: usize, bytes: &[u8]) {
    row[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        array.copy_from_slice(found);
    }
    array
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}
