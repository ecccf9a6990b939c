//! Sorted rows into month files: one folder a month, a new file when one is large enough.
//! It relies on the rows' order and holds one open file; it never looks back.

use std::collections::HashSet;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{DataType, Int32Type},
};
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};

use tokio::task::JoinSet;

use super::columns::{MONTH, Target, YEAR};
use crate::{
    catalog::{FactTable, FileEntry, file_facts, partition_path},
    error::{Error, Result},
    name::ContentId,
    storage::{Location, ParquetFile},
};

/// Rows in a row group: the unit in which a scan can skip rows by their times.
const ROW_GROUP_ROWS: usize = 128 << 10;

pub(crate) fn writer_properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Page)
        .build()
}

/// As [`writer_properties`], with the encodings that suit the first rows: a dictionary where values come again, bytes apart
/// for floats that hardly do, differences for integers and times that hardly do.
fn properties_for(rows: &RecordBatch) -> WriterProperties {
    let mut properties = writer_properties().into_builder();
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

/// Do values come again?
#[derive(Debug, PartialEq, Eq)]
enum Repeats {
    Often,
    Hardly,
}

/// Rows that tell nothing of those to come.
const FEW_ROWS: usize = 1_000;

/// `None` for a column of another kind than numbers and times, and for one with few values.
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

/// Where files are written, and how large they may become.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) place: Location,
    pub(crate) partition_columns: Vec<String>,
    pub(crate) file_bytes: usize,
    /// The load or compaction after which the files are named.
    pub(crate) name: ContentId,
    /// The loads whose rows the files hold.
    pub(crate) loads: Vec<ContentId>,
    /// How many threads encode columns.
    pub(crate) threads: usize,
}

/// Writes sorted rows into month files.
pub(crate) struct MonthWriter<'a> {
    declared: &'a FactTable,
    target: &'a Target,
    to: Destination,
    open: Option<(i32, i32, ParquetFile)>,
    files: Vec<FileEntry>,
    /// Files that were completed, and the one of them that is being published while the next one is written.
    completed: usize,
    publishing: JoinSet<Result<FileEntry>>,
}

impl<'a> MonthWriter<'a> {
    pub(crate) fn new(declared: &'a FactTable, target: &'a Target, to: Destination) -> Self {
        Self { declared, target, to, open: None, files: Vec::new(), completed: 0, publishing: JoinSet::new() }
    }

    /// Writes rows that are sorted by year and month.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let (year_column, month_column) = (batch.schema().index_of(YEAR)?, batch.schema().index_of(MONTH)?);
        let years = batch.column(year_column).as_primitive::<Int32Type>();
        let months = batch.column(month_column).as_primitive::<Int32Type>();
        let facts = batch.project(&(0..self.target.schema.fields().len()).collect::<Vec<_>>())?;
        let mut start = 0;
        while start < batch.num_rows() {
            let (year, month) = (years.value(start), months.value(start));
            let same = (start..batch.num_rows()).take_while(|&i| years.value(i) == year && months.value(i) == month).count();
            self.write_month(year, month, &facts.slice(start, same)).await?;
            start += same;
        }
        Ok(())
    }

    async fn write_month(&mut self, year: i32, month: i32, facts: &RecordBatch) -> Result<()> {
        if self.open.as_ref().is_some_and(|(y, m, _)| (*y, *m) != (year, month)) {
            self.close(None).await?;
        } else if self.open.as_ref().is_some_and(|(_, _, file)| file.size() >= self.to.file_bytes) {
            self.close(Some(self.to.file_bytes as u64)).await?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let file = ParquetFile::create(self.target.schema.clone(), properties_for(facts))?;
                (year, month, file.threads(self.to.threads))
            }
        };
        open.2.write(facts)?;
        self.open = Some(open);
        Ok(())
    }

    async fn close(&mut self, full_at: Option<u64>) -> Result<()> {
        let Some((year, month, file)) = self.open.take() else { return Ok(()) };
        let file = file.finish()?;
        let folder = partition_path(&self.to.partition_columns, year, month.unsigned_abs());
        let path = format!("{folder}/{}-{:05}-{}.parquet", self.to.name.short(), self.completed, file.hash.short());
        self.completed += 1;
        let facts = file_facts(&path, &file.footer, self.declared)?;
        let partition = match self.to.partition_columns.len() {
            1 => vec![Some(month.to_string())],
            _ => vec![Some(year.to_string()), Some(month.to_string())],
        };
        let (rows, event, known, loads) = (facts.rows, facts.event, facts.known, self.to.loads.clone());
        self.published().await?;
        let place = self.to.place.clone();
        self.publishing.spawn(async move {
            let identity = file.publish(&place, &path).await?;
            Ok(FileEntry { path, identity, rows, partition, event, known, loads, full_at })
        });
        Ok(())
    }

    /// Waits for the file that is being published: they are published one after the other.
    async fn published(&mut self) -> Result<()> {
        while let Some(done) = self.publishing.join_next().await {
            let file = done.map_err(|e| Error::Io { path: "the publishing of a file".into(), source: e.into() })??;
            self.files.push(file);
        }
        Ok(())
    }

    /// Completes the last file.
    pub(crate) async fn finish(mut self) -> Result<Vec<FileEntry>> {
        self.close(None).await?;
        self.published().await?;
        Ok(self.files)
    }
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
            let (properties, path) = (properties_for(rows), ColumnPath::new(vec![name.into()]));
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
