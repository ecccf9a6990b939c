//! Writes sorted rows into month files: one folder per month, and a new file when one is large enough.
//! Only one file is open at a time, because the rows are sorted.

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Int32Type,
};
use tokio::task::JoinSet;

use crate::{
    catalog::{FactTable, FileEntry, file_facts, partition_path},
    error::{Error, Result},
    ingest::{
        fact_files::writer_properties,
        target::{MONTH, Target, YEAR},
    },
    layout::fact_file,
    name::ContentId,
    storage::{Location, ParquetFile, suited_to},
};

/// Where files are written, and how large they may become.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) location: Location,
    pub(crate) partition_columns: Vec<String>,
    pub(crate) file_bytes: usize,
    /// The load or compaction that the files are named after.
    pub(crate) name: ContentId,
    /// The loads whose rows the files hold.
    pub(crate) loads: Vec<ContentId>,
    /// The number of threads that encode columns.
    pub(crate) threads: usize,
}

/// Writes sorted rows into month files.
pub(crate) struct MonthWriter<'a> {
    declared: &'a FactTable,
    target: &'a Target,
    to: Destination,
    open: Option<(i32, i32, ParquetFile)>,
    files: Vec<FileEntry>,
    /// The number of finished files. The last of them is published while the next one is written.
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
                let file = ParquetFile::create(self.target.schema.clone(), suited_to(writer_properties(), facts))?;
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
        let path = format!("{folder}/{}", fact_file(self.to.name, self.completed, file.hash));
        self.completed += 1;
        let facts = file_facts(&path, &file.footer, self.declared)?;
        let partition = match self.to.partition_columns.len() {
            1 => vec![Some(month.to_string())],
            _ => vec![Some(year.to_string()), Some(month.to_string())],
        };
        let (rows, event, known, loads) = (facts.rows, facts.event, facts.known, self.to.loads.clone());
        self.published().await?;
        let location = self.to.location.clone();
        self.publishing.spawn(async move {
            let identity = file.publish(&location, &path).await?;
            Ok(FileEntry { path, identity, rows, partition, event, known, loads, full_at })
        });
        Ok(())
    }

    /// Waits for the file that is being published. Files are published one after the other.
    async fn published(&mut self) -> Result<()> {
        while let Some(done) = self.publishing.join_next().await {
            let file = done.map_err(|e| Error::lost_task("publishing a file", e))??;
            self.files.push(file);
        }
        Ok(())
    }

    /// Finishes the last file.
    pub(crate) async fn finish(mut self) -> Result<Vec<FileEntry>> {
        self.close(None).await?;
        self.published().await?;
        Ok(self.files)
    }
}
