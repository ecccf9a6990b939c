//! Reads times stored as INT96 in Parquet files, without the overflow of 64-bit nanoseconds. An INT96 is a local time.
//!
//! The decoder can return an INT96 as whole seconds, for all years, or as nanoseconds, which wrap outside the years 1677 to 2262.
//! Both together are exact: the wrapped nanoseconds minus the wrapped nanoseconds of the whole seconds are the fraction of the
//! second.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{DataType, Field, Schema, TimeUnit as ArrowUnit, TimestampNanosecondType, TimestampSecondType},
};
use parquet::{arrow::arrow_reader::ArrowReaderMetadata, basic::Type};

use crate::error::{Error, Result};

const SECOND_NS: i64 = 1_000_000_000;

/// Which columns of a file are INT96.
///
/// # Errors
/// [`Error::ColumnType`] for an INT96 inside a nested column, where it would wrap.
pub(crate) fn columns(shown: &str, footer: &ArrowReaderMetadata) -> Result<Vec<bool>> {
    let parquet = footer.metadata().file_metadata().schema_descr();
    let mut found = vec![false; footer.schema().fields().len()];
    for (leaf, column) in parquet.columns().iter().enumerate().filter(|(_, c)| c.physical_type() == Type::INT96) {
        let root = parquet.get_column_root_idx(leaf);
        match found.get_mut(root) {
            Some(found) if column.path().parts().len() == 1 => *found = true,
            _ => {
                return Err(Error::ColumnType {
                    subject: format!("file `{shown}`"),
                    column: column.path().string(),
                    found: "INT96".into(),
                    needed: "INT96 times inside nested columns would wrap beyond the year 2262; write them as TIMESTAMP_MICROS"
                        .into(),
                });
            }
        }
    }
    Ok(found)
}

/// The schema with which the decoder returns these columns in a unit. An embedded Arrow schema may name any other unit.
pub(crate) fn in_unit(schema: &Schema, int96: &[bool], unit: ArrowUnit) -> Schema {
    let times = |field: &Field| field.clone().with_data_type(DataType::Timestamp(unit, None));
    let fields = schema.fields().iter().zip(int96).map(|(f, is_int96)| if *is_int96 { times(f) } else { f.as_ref().clone() });
    Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone())
}

/// The local times in nanoseconds, from a column decoded in both ways.
pub(crate) fn local_times_ns(shown: &str, seconds: &ArrayRef, wrapped_ns: &ArrayRef) -> Result<Vec<Option<i128>>> {
    let (Some(seconds), Some(wrapped)) =
        (seconds.as_primitive_opt::<TimestampSecondType>(), wrapped_ns.as_primitive_opt::<TimestampNanosecondType>())
    else {
        let reason = "an INT96 column does not decode as times; the file is damaged: replace or remove it".into();
        return Err(Error::UnreadableFile { path: shown.into(), reason });
    };
    let local_time = |row: usize| {
        let (second, wrapped) = (seconds.value(row), wrapped.value(row));
        let fraction = wrapped.wrapping_sub(second.wrapping_mul(SECOND_NS));
        i128::from(second) * i128::from(SECOND_NS) + i128::from(fraction)
    };
    Ok((0..seconds.len()).map(|row| seconds.is_valid(row).then(|| local_time(row))).collect())
}
