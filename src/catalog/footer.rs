//! What Parquet footers say about a file: schema, rows, and the bounds of its times.
//! Only footers are read, never rows. Names of folders are not used for the bounds of times.

use arrow::{array::Array as _, datatypes::Schema};
use parquet::{
    arrow::arrow_reader::{ArrowReaderMetadata, statistics::StatisticsConverter},
    file::metadata::ParquetMetaData,
};

use super::{Bounds, FactTable, TimeColumn};
use crate::{
    error::{Error, Result},
    storage::contained,
    time::stored_integers,
};

/// The rows and times of a file, from its footer.
pub(crate) struct FileFacts {
    pub(crate) rows: u64,
    pub(crate) event: Option<Bounds>,
    pub(crate) known: Option<Bounds>,
}

/// Schema, rows and time bounds from a footer.
pub(crate) fn file_facts(shown: &str, footer: &ArrowReaderMetadata, declared: &FactTable) -> Result<FileFacts> {
    // Statistics come from outside, and may make the decoder panic too.
    contained(shown, || facts_of(shown, footer, declared))
}

fn facts_of(shown: &str, footer: &ArrowReaderMetadata, declared: &FactTable) -> Result<FileFacts> {
    let bounds = |column: &TimeColumn| -> Result<Option<Bounds>> {
        refuse_int96(shown, footer, &column.name)?;
        declared.scale(&format!("file `{shown}`"), column, footer.schema())?;
        Ok(time_bounds(footer.metadata(), footer.schema(), &column.name))
    };
    let mut columns = declared.time_columns();
    let event = columns.next().map(bounds).transpose()?.flatten();
    let known = columns.next().map(bounds).transpose()?.flatten();
    let rows = footer.metadata().file_metadata().num_rows();
    Ok(FileFacts { rows: u64::try_from(rows).unwrap_or(0), event, known })
}

/// Refuses times stored as INT96: they are read as nanoseconds, in which years beyond 2262 wrap into the past, so that a fact
/// would become visible early.
fn refuse_int96(shown: &str, footer: &ArrowReaderMetadata, column: &str) -> Result<()> {
    let parquet = footer.metadata().file_metadata().schema_descr();
    let stored = parquet.columns().iter().find(|c| c.path().parts() == [column]);
    if stored.is_none_or(|c| c.physical_type() != parquet::basic::Type::INT96) {
        return Ok(());
    }
    Err(Error::ColumnType {
        subject: format!("file `{shown}`"),
        column: column.into(),
        found: "INT96".into(),
        needed: "years beyond 2262 would wrap into the past; write the times as TIMESTAMP_MICROS, or load the files with `ingest`, which reads them".into(),
    })
}

/// The bounds of a time column over all row groups; `None` when one of them has no statistics.
fn time_bounds(footer: &ParquetMetaData, schema: &Schema, column: &str) -> Option<Bounds> {
    let converter = StatisticsConverter::try_new(column, schema, footer.file_metadata().schema_descr()).ok()?;
    let groups = footer.row_groups();
    let mins = stored_integers(&converter.row_group_mins(groups).ok()?).ok()?;
    let maxes = stored_integers(&converter.row_group_maxes(groups).ok()?).ok()?;
    let nulls = converter.row_group_null_counts(groups).ok()?;
    let mut bounds = Bounds::empty(0);
    for (group, meta) in groups.iter().enumerate() {
        let nulls_here = nulls.is_valid(group).then(|| nulls.value(group))?;
        bounds.nulls += nulls_here;
        if nulls_here == u64::try_from(meta.num_rows()).ok()? {
            continue;
        }
        let (min, max) = (mins.is_valid(group).then(|| mins.value(group))?, maxes.is_valid(group).then(|| maxes.value(group))?);
        bounds = bounds.including(min, max);
    }
    Some(bounds)
}
