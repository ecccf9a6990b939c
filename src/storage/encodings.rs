//! Chooses Parquet encodings for a table's columns by its first rows.
//! Writing is in `parquet_write`.

use std::collections::HashSet;

use arrow::{
    array::{Array, ArrayRef, RecordBatch},
    datatypes::DataType,
};
use parquet::{basic::Encoding, file::properties::WriterProperties, schema::types::ColumnPath};

/// The properties with the encodings that suit the first rows: a dictionary where values repeat; where they hardly do, byte
/// stream split for floats, and deltas for integers and times.
pub(crate) fn suited_to(properties: WriterProperties, rows: &RecordBatch) -> WriterProperties {
    let mut properties = properties.into_builder();
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        let is_float = field.data_type().is_floating();
        if repeats(column) != Some(Repeats::Hardly) {
            continue;
        }
        let path = ColumnPath::new(vec![field.name().clone()]);
        let encoding = if is_float { Encoding::BYTE_STREAM_SPLIT } else { Encoding::DELTA_BINARY_PACKED };
        properties = properties.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding);
    }
    properties.build()
}

/// Do the values of a column repeat?
#[derive(Debug, PartialEq, Eq)]
enum Repeats {
    Often,
    Hardly,
}

/// With fewer rows nothing is concluded about later ones.
const FEW_ROWS: usize = 1_000;

/// `None` for a column that is neither a number nor a time, and for one with few values.
fn repeats(column: &ArrayRef) -> Option<Repeats> {
    let width = match column.data_type() {
        DataType::Int32 | DataType::UInt32 | DataType::Date32 | DataType::Float32 => 4,
        DataType::Int64 | DataType::UInt64 | DataType::Timestamp(..) | DataType::Float64 => 8,
        _ => return None,
    };
    let data = column.to_data();
    let bytes = data.buffers().first()?.as_slice().get(data.offset() * width..(data.offset() + data.len()) * width)?;
    let values = bytes.chunks_exact(width).enumerate().filter(|(row, _)| column.is_valid(*row)).map(|(_, value)| value);
    let (mut count, mut different) = (0, HashSet::new());
    for value in values {
        count += 1;
        different.insert(value);
    }
    let is_hardly = different.len() * 4 > count * 3;
    (count >= FEW_ROWS).then_some(if is_hardly { Repeats::Hardly } else { Repeats::Often })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn encodings_follow_the_values() {
        let columns: [(&str, ArrayRef); 4] = [
            ("rare", Arc::new(Float64Array::from_iter_values((0..2_000).map(|i| f64::from(i) / 7.0)))),
            ("often", Arc::new(Float64Array::from_iter_values((0..2_000).map(|i| f64::from(i % 100))))),
            ("id.x", Arc::new(Int64Array::from_iter_values(0..2_000))),
            ("text", Arc::new(StringArray::from_iter_values((0..2_000).map(|i| i.to_string())))),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let encoding = |rows: &RecordBatch, name: &str| {
            let (properties, path) = (suited_to(WriterProperties::default(), rows), ColumnPath::new(vec![name.into()]));
            (properties.dictionary_enabled(&path), properties.encoding(&path))
        };
        assert_eq!(encoding(&rows, "rare"), (false, Some(Encoding::BYTE_STREAM_SPLIT)));
        assert_eq!(encoding(&rows, "often"), (true, None));
        assert_eq!(encoding(&rows, "id.x"), (false, Some(Encoding::DELTA_BINARY_PACKED)));
        assert_eq!(encoding(&rows, "text"), (true, None));
        // A slice tells by its own rows, and few rows tell nothing.
        assert!(!encoding(&rows.slice(500, 1_000), "id.x").0);
        assert!(encoding(&rows.slice(500, 100), "id.x").0);
    }
}
