//! The columns of one source file: what it calls them, what the table calls them, and their types as found or inferred.

use std::collections::HashMap;

use arrow::datatypes::{DataType, TimeUnit as ArrowUnit};

use crate::catalog::SourceColumn;

/// The columns of one source, in its order.
#[derive(Debug, Default)]
pub(crate) struct SourceColumns {
    /// Their names in the file.
    pub(crate) found: Vec<String>,
    /// Their names in the table.
    pub(crate) names: Vec<String>,
    /// Their types, as stored or inferred; `Null` for a column without a value.
    pub(crate) types: Vec<DataType>,
    /// Do their times have digits finer than a microsecond?
    pub(crate) finer: Vec<bool>,
    /// Are they stored as INT96?
    pub(crate) int96: Vec<bool>,
    /// The positions of the columns by their names in the table.
    pub(crate) positions: HashMap<String, usize>,
}

impl SourceColumns {
    /// Columns without types.
    pub(crate) fn untyped(found: Vec<String>, names: Vec<String>) -> Self {
        let count = names.len();
        let positions = names.iter().enumerate().map(|(position, name)| (name.clone(), position)).collect();
        Self { found, names, types: vec![DataType::Null; count], finer: vec![false; count], int96: vec![false; count], positions }
    }

    /// The position in the file of the column with this name in the table.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }

    pub(crate) fn recorded(&self) -> Vec<SourceColumn> {
        let type_of = |i: usize| if self.int96[i] { "Int96".to_owned() } else { self.types[i].to_string() };
        let column = |i: usize| SourceColumn { found: self.found[i].clone(), name: self.names[i].clone(), data_type: type_of(i) };
        (0..self.names.len()).map(column).collect()
    }

    /// Adds a column, or the type of another value to a known column.
    pub(crate) fn add_value(&mut self, found: &str, name: &str, data_type: DataType, finer: bool) {
        match self.position(name) {
            Some(i) => {
                self.types[i] = wider(&self.types[i], &data_type).unwrap_or(DataType::Utf8);
                self.finer[i] |= finer;
            }
            None => {
                self.positions.insert(name.to_owned(), self.names.len());
                self.found.push(found.to_owned());
                self.names.push(name.to_owned());
                self.types.push(data_type);
                self.finer.push(finer);
                self.int96.push(false);
            }
        }
    }
}

/// The instant type of this library's files.
pub(crate) fn instant_type(unit: ArrowUnit) -> DataType {
    DataType::Timestamp(unit, Some("UTC".into()))
}

/// The narrowest type that holds the values of both.
pub(crate) fn wider(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::{Boolean, Float32, Float64, Int8, Int16, Int32, Int64, Null, UInt8, UInt16, UInt32, Utf8};
    let integer = |t: &DataType| matches!(t, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32);
    let float = |t: &DataType| matches!(t, Float32 | Float64);
    match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (Null, other) | (other, Null) => Some(other.clone()),
        (a, b) if integer(a) && integer(b) => Some(Int64),
        (a, b) if (integer(a) || float(a)) && (integer(b) || float(b)) => Some(Float64),
        (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, Some(_))) => Some(instant_type(ArrowUnit::Nanosecond)),
        (Utf8, Int64 | Float64 | Boolean)
        | (Int64 | Float64 | Boolean, Utf8)
        | (Boolean, Int64 | Float64)
        | (Int64 | Float64, Boolean) => Some(Utf8),
        _ => None,
    }
}
