//! Sorted rows into month files: one folder a month, a new file when one is large enough.
//! It relies on the rows' order and holds one open file; it never looks back.

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Int32Type,
};
use parquet::{
    basic::{Compression, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties},
};

use super::{
    Ingest,
    columns::{MONTH, Target, YEAR},
};
use crate::{
    catalog::{FileEntry, file_facts, partition_path},
    error::Result,
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

/// Writes the files of one load.
pub(crate) struct MonthWriter<'a> {
    ingest: &'a Ingest,
    target: &'a Target,
    place: Location,
    load: ContentId,
    open: Option<(i32, i32, ParquetFile)>,
    files: Vec<FileEntry>,
}

impl<'a> MonthWriter<'a> {
    pub(crate) fn new(ingest: &'a Ingest, target: &'a Target, place: Location, load: ContentId) -> Self {
        Self { ingest, target, place, load, open: None, files: Vec::new() }
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
        let is_full = |file: &ParquetFile| file.size() >= self.ingest.file_bytes;
        if self.open.as_ref().is_some_and(|(y, m, file)| (*y, *m) != (year, month) || is_full(file)) {
            self.close().await?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => (year, month, ParquetFile::create(self.target.schema.clone(), writer_properties())?),
        };
        open.2.write(facts)?;
        self.open = Some(open);
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        let Some((year, month, file)) = self.open.take() else { return Ok(()) };
        let file = file.finish()?;
        let folder = partition_path(&self.ingest.partition_columns, year, month.unsigned_abs());
        let path = format!("{folder}/{}-{:05}-{}.parquet", self.load.short(), self.files.len(), file.hash.short());
        let facts = file_facts(&path, &file.footer, &self.ingest.declared)?;
        let identity = file.publish(&self.place, &path).await?;
        let partition = match self.ingest.partition_columns.len() {
            1 => vec![Some(month.to_string())],
            _ => vec![Some(year.to_string()), Some(month.to_string())],
        };
        self.files.push(FileEntry { path, identity, rows: facts.rows, partition, event: facts.event, known: facts.known });
        Ok(())
    }

    /// Completes the last file.
    pub(crate) async fn finish(mut self) -> Result<Vec<FileEntry>> {
        self.close().await?;
        Ok(self.files)
    }
}
