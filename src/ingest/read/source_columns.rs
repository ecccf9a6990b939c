//! The columns of one source file: what it calls them, what the table calls them, and their types as found or inferred.

use std::collections::HashMap;

use arrow::datatypes::{DataType, TimeUnit as ArrowUnit};

use crate::catalog::SourceColumn;

/// The columns of one source, in its order.
#[derive(Debug, Default)]
pub(crate) struct SourceColumns {
    /// What the file calls them.
    pub(crate) found: Vec<String>,
    /// What the table calls them.
    pub(crate) names: Vec<String>,
    /// Their own types, or those that were inferred; `Null` for a column without a value.
    pub(crate) types: Vec<DataType>,
    /// Have their times digits finer than a microsecond?
    pub(crate) finer: Vec<bool>,
    /// Are they stored as INT96?
    pub(crate) int96: Vec<bool>,
    /// Which column has which name in the table.
    places: HashMap<String, usize>,
}

impl SourceColumns {
    /// Columns without a type, of a file that calls them so.
    pub(crate) fn untyped(found: Vec<String>, names: Vec<String>) -> Self {
        let count = names.len();
        let places = names.iter().enumerate().map(|(place, name)| (name.clone(), place)).collect();
        Self { found, names, types: vec![DataType::Null; count], finer: vec![false; count], int96: vec![false; count], places }
    }

    /// Where the column lies in the file that the table calls so.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    pub(crate) fn recorded(&self) -> Vec<SourceColumn> {
        let type_of = |i: usize| if self.int96[i] { "Int96".to_owned() } else { self.types[i].to_string() };
        let column = |i: usize| SourceColumn { found: self.found[i].clone(), name: self.names[i].clone(), data_type: type_of(i) };
        (0..self.names.len()).map(column).collect()
    }

    /// Takes in a column, or a further value's type of one that is known.
    pub(crate) fn learn(&mut self, found: &str, name: &str, data_type: DataType, finer: bool) {
        match self.place(name) {
            Some(i) => {
                self.types[i] = wider(&self.types[i], &data_type).unwrap_or(DataType::Utf8);
                self.finer[i] |= finer;
            }
            None => {
                self.places.insert(name.to_owned(), self.names.len());
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
