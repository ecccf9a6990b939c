//! Properties of the whole room: what is written is read back, and damage is never an answer.

use std::{io::Cursor, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array,
        Float64Array, Int8Array, Int32Array, Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray, StructArray,
        TimestampNanosecondArray, UInt64Array,
    },
    datatypes::{DataType, Field, Int64Type},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::{
    file::{Found, ServedFile, Source},
    layout::{Row, RowLayout, Rows},
    writer::{WriteError, Writer},
};
use crate::{
    error::Error,
    name::ContentId,
    value::{Value, floats},
};

const ID: &[u8] = b"a materialization";

fn some<T>(rng: &mut StdRng, rows: usize, value: impl Fn(&mut StdRng) -> T) -> Vec<Option<T>> {
    (0..rows).map(|_| (!rng.random_bool(0.2)).then(|| value(rng))).collect()
}

/// Rows with columns of every form, under a key of an integer and a text.
fn rows(rng: &mut StdRng, count: usize, with_texts: bool) -> RecordBatch {
    let mut numbers: Vec<i64> = (0..10 * count as i64).collect();
    numbers.shuffle(rng);
    numbers.truncate(count);
    let text = |rng: &mut StdRng| "ä".repeat(rng.random_range(0..20));
    let threes = some(rng, count, |rng| rng.random::<[u8; 3]>());
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("k", Arc::new(Int64Array::from(numbers.clone()))),
        ("int8", Arc::new(Int8Array::from(some(rng, count, |rng| rng.random())))),
        ("int32", Arc::new(Int32Array::from(some(rng, count, |rng| rng.random())))),
        ("uint64", Arc::new(UInt64Array::from(some(rng, count, |rng| rng.random())))),
        ("float32", Arc::new(Float32Array::from(some(rng, count, |rng| f32::from_bits(rng.random()))))),
        ("float64", Arc::new(Float64Array::from(some(rng, count, |rng| f64::from_bits(rng.random()))))),
        ("bool", Arc::new(BooleanArray::from(some(rng, count, |rng| rng.random::<bool>())))),
        ("date", Arc::new(Date32Array::from(some(rng, count, |rng| rng.random_range(-90_000..90_000))))),
        ("at", Arc::new(TimestampNanosecondArray::from(some(rng, count, |rng| rng.random())).with_timezone("UTC"))),
        ("decimal", Arc::new(Decimal128Array::from(some(rng, count, |rng| rng.random_range(0..1 << 90))))),
        ("three", Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(threes.into_iter(), 3).unwrap())),
    ];
    if with_texts {
        let texts = some(rng, count, text);
        columns.push(("name", Arc::new(StringArray::from_iter_values(numbers.iter().map(|n| "x".repeat(*n as usize % 9))))));
        columns.push(("text", Arc::new(StringArray::from(texts.clone()))));
        columns.push(("large", Arc::new(LargeStringArray::from(texts))));
        let bytes = some(rng, count, |rng| rng.random::<[u8; 7]>());
        columns.push(("bytes", Arc::new(BinaryArray::from_iter(bytes))));
        let list = |rng: &mut StdRng| (0..rng.random_range(0..4)).map(|_| rng.random_bool(0.8).then(|| rng.random())).collect();
        let lists: Vec<Option<Vec<Option<i64>>>> = some(rng, count, list);
        columns.push(("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))));
        let inner: ArrayRef = Arc::new(Int64Array::from(some(rng, count, |rng| rng.random())));
        let field = Arc::new(Field::new("inner", DataType::Int64, true));
        columns.push(("struct", Arc::new(StructArray::from(vec![(field, inner)]))));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The bytes of a file with these groups, each written in batches of three rows.
fn written(groups: &[(&RowLayout, &RecordBatch)]) -> Result<Vec<u8>, WriteError> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), ContentId::of(ID));
    for (layout, rows) in groups {
        let mut group = writer.group(layout, rows.num_rows() as u64)?;
        for at in (0..rows.num_rows()).step_by(3) {
            group.write(&rows.slice(at, 3.min(rows.num_rows() - at)))?;
        }
        group.finish()?;
    }
    Ok(writer.finish()?.into_inner())
}

fn key_of(layout: &RowLayout, rows: &RecordBatch, row: usize) -> Vec<u8> {
    let columns: Vec<ArrayRef> =
        layout.key_schema().fields().iter().map(|field| rows.column_by_name(field.name()).unwrap().clone()).collect();
    let (mut of_columns, mut of_values) = (Vec::new(), Vec::new());
    assert!(layout.put_key_of(&columns, row, &mut of_columns).unwrap());
    let values: Vec<Value> = columns.iter().map(|column| Value::of("the key", "k", column, row).unwrap()).collect();
    assert!(layout.put_key(&values, &mut of_values).unwrap());
    assert_eq!(of_columns, of_values);
    of_columns
}

fn all_of(layout: &RowLayout, rows: &[Row]) -> Rows {
    let mut all = Rows::with_capacity(layout, rows.len());
    rows.iter().for_each(|row| all.push(row));
    all
}

fn check_row(layout: &RowLayout, rows: &RecordBatch, number: usize, row: &Row) {
    for (i, field) in layout.value_schema().fields().iter().enumerate() {
        let expected = rows.column_by_name(field.name()).unwrap().slice(number, 1);
        let found = layout.column(i, &all_of(layout, std::slice::from_ref(row))).unwrap();
        // A comparison of arrays goes by bits.
        assert_eq!(found.to_data(), expected.to_data(), "{field} of row {number}");
        if !field.data_type().is_nested() {
            let (value, of_array) = (layout.value(row, i).unwrap(), Value::of("the row", "x", &expected, 0).unwrap());
            assert!(value == of_array || format!("{value:?}") == format!("{of_array:?}"), "{field}: {value:?} is {of_array:?}");
        }
        if layout.is_number(i) {
            let float = floats(&expected).unwrap();
            let expected = if float.is_null(0) { f64::NAN } else { float.value(0) };
            let mut found = [0.0];
            layout.numbers(row, &[i], &mut found).unwrap();
            let [found] = found;
            assert!(found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()), "{field}");
        }
    }
}

#[test]
fn every_row_is_read_back_bit_for_bit_and_no_other_key_is_found() {
    let mut rng = StdRng::seed_from_u64(1);
    for (count, with_texts, names) in [
        (0, true, ["k"].as_slice()),
        (1, false, &["k"]),
        (200, false, &["k"]),
        (200, true, &["k"]),
        (200, true, &["k", "name"]),
        (60, true, &["k", "list"]),
        (60, true, &["k", "bool", "decimal"]),
    ] {
        let mut batch = rows(&mut rng, count, with_texts);
        // A published row has a whole key.
        for name in names {
            let whole = arrow::compute::is_not_null(batch.column_by_name(name).unwrap()).unwrap();
            batch = arrow::compute::filter_record_batch(&batch, &whole).unwrap();
        }
        let layout = RowLayout::new(&keys(names), &batch.schema()).unwrap();
        let other = rows(&mut rng, 17, true);
        let partial = RowLayout::new(&keys(&["k"]), &other.schema()).unwrap();
        let bytes = written(&[(&layout, &batch), (&partial, &other)]).unwrap();
        let (mut file, layouts) = (tempfile::tempfile().unwrap(), [layout, partial]);
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        let length = bytes.len() as u64;
        for source in [Source::Memory(bytes), Source::File(file, length)] {
            let served = ServedFile::open(source, ContentId::of(ID), &layouts).unwrap();
            for (group, (layout, batch)) in layouts.iter().zip([&batch, &other]).enumerate() {
                let mut found = Vec::new();
                for number in 0..batch.num_rows() {
                    let key = key_of(layout, batch, number);
                    let mut row = Row::default();
                    assert_eq!(served.find(group, layout, &key, true, &mut row), Found::Row);
                    check_row(layout, batch, number, &row);
                    // Without the heap, everything else is there.
                    let mut fixed = Row::default();
                    assert_eq!(served.find(group, layout, &key, false, &mut fixed), Found::Row);
                    assert_eq!(fixed.fixed, row.fixed);
                    found.push(row);
                    let stranger = [key.as_slice(), b"?"].concat();
                    assert_eq!(served.find(group, layout, &stranger, true, &mut Row::default()), Found::Nothing);
                }
                let all: Vec<usize> = (0..layout.value_schema().fields().len()).collect();
                let columns = layout.batch(layout.value_schema(), &all, &all_of(layout, &found)).unwrap();
                for (field, column) in layout.value_schema().fields().iter().zip(columns.columns()) {
                    assert_eq!(column.to_data(), batch.column_by_name(field.name()).unwrap().to_data(), "{field}");
                }
            }
        }
    }
}

#[test]
fn a_row_that_is_put_together_has_the_values_of_its_sources() {
    let mut rng = StdRng::seed_from_u64(2);
    for names in [["k"].as_slice(), &["k", "name"]] {
        let (one, other) = (rows(&mut rng, 9, true), rows(&mut rng, 9, true));
        let layout = RowLayout::new(&keys(names), &one.schema()).unwrap();
        let row_of = |batch: &RecordBatch, number: usize| {
            let values: Vec<ArrayRef> = layout
                .value_schema()
                .fields()
                .iter()
                .map(|field| batch.column_by_name(field.name()).unwrap().slice(number, 1))
                .collect();
            layout.row_of(&values).unwrap()
        };
        for number in 0..9 {
            let sources = [row_of(&one, number), row_of(&other, number)];
            let columns = layout.value_schema().fields().len();
            let from: Vec<usize> = (0..columns).map(|_| rng.random_range(0..2)).collect();
            let values: Vec<_> = from.iter().enumerate().map(|(column, &i)| (&layout, &sources[i], column)).collect();
            let mut row = layout.assemble(&values).unwrap();
            for (column, &i) in from.iter().enumerate() {
                let expected = [&one, &other][i].column_by_name(layout.value_schema().field(column).name()).unwrap();
                assert_eq!(
                    layout.column(column, &all_of(&layout, std::slice::from_ref(&row))).unwrap().to_data(),
                    expected.slice(number, 1).to_data()
                );
            }
            layout.set_null(&mut row, number);
            assert_eq!(layout.value(&row, number).unwrap(), Value::Null);
        }
    }
}

#[test]
fn a_flipped_bit_or_a_missing_end_is_never_an_answer() {
    let mut rng = StdRng::seed_from_u64(3);
    for with_texts in [false, true] {
        let batch = rows(&mut rng, 12, with_texts);
        let layouts = [RowLayout::new(&keys(&["k"]), &batch.schema()).unwrap()];
        let bytes = written(&[(&layouts[0], &batch)]).unwrap();
        let open = |bytes: Vec<u8>| ServedFile::open(Source::Memory(bytes), ContentId::of(ID), &layouts);
        let (mut refused, mut damaged) = (0, 0);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << rng.random_range(0..8);
            let Some(served) = open(flipped) else {
                refused += 1;
                continue;
            };
            for number in 0..batch.num_rows() {
                let mut row = Row::default();
                match served.find(0, &layouts[0], &key_of(&layouts[0], &batch, number), true, &mut row) {
                    Found::Row => check_row(&layouts[0], &batch, number, &row),
                    Found::Nothing => panic!("row {number} is reported missing with byte {at} changed"),
                    Found::Damaged => damaged += 1,
                }
            }
            assert_ne!(served.find(0, &layouts[0], &(-1_i64).to_le_bytes(), true, &mut Row::default()), Found::Row);
        }
        assert!(refused > 0 && damaged > 0);
        assert!((0..bytes.len()).all(|end| open(bytes[..end].to_vec()).is_none()));
        // A file of another materialization, or of other columns.
        assert!(ServedFile::open(Source::Memory(bytes.clone()), ContentId::of(b"another"), &layouts).is_none());
        let fewer = batch.project(&[0, 1]).unwrap();
        let others = [RowLayout::new(&keys(&["k"]), &fewer.schema()).unwrap()];
        assert!(ServedFile::open(Source::Memory(bytes), ContentId::of(ID), &others).is_none());
    }
}

#[test]
fn a_row_in_another_place_or_of_another_materialization_is_damaged() {
    let mut rng = StdRng::seed_from_u64(5);
    let batch = rows(&mut rng, 40, false);
    let layouts = [RowLayout::new(&keys(&["k"]), &batch.schema()).unwrap()];
    let bytes = written(&[(&layouts[0], &batch)]).unwrap();
    // Other values under the same keys, as of another day.
    let mut columns = rows(&mut rng, 40, false).columns().to_vec();
    columns[0] = batch.column(0).clone();
    let other = RecordBatch::try_new(batch.schema(), columns).unwrap();
    let mut writer = Writer::new(Cursor::new(Vec::new()), ContentId::of(b"another"));
    let mut group = writer.group(&layouts[0], 40).unwrap();
    group.write(&other).unwrap();
    group.finish().unwrap();
    let others = writer.finish().unwrap().into_inner();
    let width = layouts[0].row_bytes();
    let first = bytes.len() - width * 40;
    let rows_at = (0..first).rfind(|at| open_at(&bytes, *at, width, &layouts[0])).unwrap();
    for (from, to) in [(0, 1), (5, 6), (39, 0)] {
        for source in [&bytes, &others] {
            let to = if std::ptr::eq(source, &others) { from } else { to };
            let mut moved = bytes.clone();
            let row = &source[rows_at + from * width..rows_at + (from + 1) * width];
            moved[rows_at + to * width..rows_at + (to + 1) * width].copy_from_slice(row);
            let served = ServedFile::open(Source::Memory(moved), ContentId::of(ID), &layouts).unwrap();
            for number in 0..40 {
                let mut row = Row::default();
                let found = served.find(0, &layouts[0], &key_of(&layouts[0], &batch, number), true, &mut row);
                if number == to {
                    assert_eq!(found, Found::Damaged);
                } else {
                    assert_eq!(found, Found::Row);
                    check_row(&layouts[0], &batch, number, &row);
                }
            }
        }
    }
}

/// Do the rows of a file of one group begin here?
fn open_at(bytes: &[u8], at: usize, width: usize, layout: &RowLayout) -> bool {
    let place = super::layout::RowPlace::first_of(ContentId::of(ID), 0);
    bytes.get(at..at + width).is_some_and(|row| RowLayout::is_whole(row, place)) && !layout.key_in_heap()
}

#[test]
fn rows_that_are_not_those_of_the_manifest_are_refused() {
    let mut rng = StdRng::seed_from_u64(4);
    let batch = rows(&mut rng, 4, false);
    let layout = RowLayout::new(&keys(&["k"]), &batch.schema()).unwrap();
    let twice = arrow::compute::concat_batches(&batch.schema(), [&batch.slice(0, 1), &batch.slice(0, 1)]).unwrap();
    for (rows, batch) in [(3, &batch), (5, &batch), (2, &twice)] {
        let mut writer = Writer::new(Cursor::new(Vec::new()), ContentId::of(ID));
        let mut group = writer.group(&layout, rows).unwrap();
        let outcome = group.write(batch).and_then(|()| group.finish());
        assert!(matches!(outcome, Err(WriteError::Rows(Error::Corrupt { .. }))));
    }
}
