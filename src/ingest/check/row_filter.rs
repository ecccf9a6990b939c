//! Removes rows from the sorted rows of a load: rows outside the months that the load replaces, and rows whose key is taken.
//! Both go to the quarantine.
//!
//! Keys need a second look at the rows, so rows with unique keys are spooled to the disk first. Without unique keys rows pass
//! straight through.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::{Int32Type, Int64Type},
};
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::{
    inspect::Inspector,
    unique::{self, repeated},
};
use crate::{
    catalog::{
        FileEntry,
        expectation::{Expect, OnViolation, Rule},
    },
    engine::Engine,
    error::{Error, Result},
    ingest::{
        fact_files::writer_properties,
        target::{MONTH, ROW, Target, YEAR},
    },
    storage::{FinishedParquet, Location, ParquetFile},
    time::month::Month,
};

/// What sorted rows are filtered by.
pub(crate) struct RowFilter<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) inspector: &'a Arc<Inspector>,
    pub(crate) target: &'a Target,
    pub(crate) expectations: &'a [Expect],
    /// The months whose rows are loaded; `None` for all.
    pub(crate) months: Option<Vec<Month>>,
    /// The table's name, the files that it keeps, and their location.
    pub(crate) table: &'a str,
    pub(crate) files: &'a [FileEntry],
    pub(crate) location: &'a Location,
}

/// The rows that a load writes, in the order of the table's files.
pub(crate) struct FilteredRows {
    source: RowsToFilter,
    rules: Rules,
}

enum RowsToFilter {
    /// As they come from the sort.
    Streamed(Option<RecordBatch>, SendableRecordBatchStream),
    /// Read back from the disk. The file is deleted when it is dropped.
    Spooled { rows: ParquetRecordBatchReader, _file: FinishedParquet },
}

/// Which rows are removed, and why.
struct Rules {
    inspector: Arc<Inspector>,
    months: Option<Vec<Month>>,
    /// Positions of rows whose key is taken, with the reason.
    repeated: Vec<(String, BTreeSet<i64>)>,
}

impl RowFilter<'_> {
    /// Finds and counts the rows whose key is taken, if keys must be unique. They are removed from the returned rows if their
    /// expectation quarantines rows.
    pub(crate) async fn apply(self, first: Option<RecordBatch>, mut rest: SendableRecordBatchStream) -> Result<FilteredRows> {
        let mut rules = Rules { inspector: self.inspector.clone(), months: self.months.clone(), repeated: Vec::new() };
        if !self.expectations.iter().any(Expect::is_unique) {
            return Ok(FilteredRows { source: RowsToFilter::Streamed(first, rest), rules });
        }
        let mut spool = ParquetFile::create(self.target.sorted.clone(), writer_properties())?;
        let mut next = first;
        while let Some(batch) = next {
            spool.write(&rules.inside_months(batch)?)?;
            next = rest.try_next().await?;
        }
        let spool = spool.finish()?;
        for (i, expect) in self.expectations.iter().enumerate() {
            let Rule::Unique { columns } = &expect.rule else { continue };
            let schema = self.target.schema.clone();
            let compared =
                unique::ComparedRows { table: self.table, files: self.files, location: self.location, load: &spool, schema };
            let positions = repeated(self.engine, &compared, columns).await?;
            self.inspector.stats(|stats| stats.violations[i].count = positions.len() as u64);
            if let Some(first) = positions.first() {
                let shown = self.inspector.shown(*first);
                self.inspector.stats(|stats| stats.violations[i].first = Some(shown));
            }
            match expect.on_violation {
                OnViolation::Warn => {}
                OnViolation::Quarantine => rules.repeated.push((expect.to_string(), positions.into_iter().collect())),
                // These rows stop the load. They are only listed in the quarantine.
                OnViolation::Stop => {
                    let listed = vec![(expect.to_string(), positions.into_iter().collect())];
                    for batch in self.read(&spool)? {
                        rules.inspector.remove_repeated(batch?, &listed)?;
                    }
                }
            }
        }
        let source = RowsToFilter::Spooled { rows: self.read(&spool)?, _file: spool };
        Ok(FilteredRows { source, rules })
    }

    fn read(&self, spool: &FinishedParquet) -> Result<ParquetRecordBatchReader> {
        let file = std::fs::File::open(spool.path()).map_err(Error::temporary_file)?;
        Ok(ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(self.engine.batch_rows()).build()?)
    }
}

impl FilteredRows {
    /// The next rows that are written; `None` after the last ones.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        match &mut self.source {
            RowsToFilter::Streamed(first, rest) => {
                let next = match first.take() {
                    Some(first) => Some(first),
                    None => rest.try_next().await?,
                };
                next.map(|batch| self.rules.inside_months(batch)).transpose()
            }
            RowsToFilter::Spooled { rows, .. } => {
                let Some(batch) = rows.next().transpose()? else { return Ok(None) };
                self.rules.inspector.remove_repeated(batch, &self.rules.repeated).map(Some)
            }
        }
    }
}

impl Rules {
    /// Removes the rows outside the months.
    fn inside_months(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let Some(months) = &self.months else { return Ok(batch) };
        let numbers = |name: &str| Ok::<_, Error>(batch.column(batch.schema_ref().index_of(name)?).as_primitive::<Int32Type>());
        let (years, numbers) = (numbers(YEAR)?, numbers(MONTH)?);
        let is_outside =
            |row| Month::new(years.value(row), numbers.value(row).unsigned_abs()).is_none_or(|month| !months.contains(&month));
        let is_out: BooleanArray = (0..batch.num_rows()).map(|row| Some(is_outside(row))).collect();
        self.inspector.remove(batch, &is_out, "outside the months that the load replaces")
    }
}

impl Inspector {
    /// Removes the rows at these positions, each for its reason.
    fn remove_repeated(&self, mut batch: RecordBatch, repeated: &[(String, BTreeSet<i64>)]) -> Result<RecordBatch> {
        for (reason, positions) in repeated.iter().filter(|(_, positions)| !positions.is_empty()) {
            let of_rows = batch.column(batch.schema_ref().index_of(ROW)?).as_primitive::<Int64Type>();
            let is_out: BooleanArray = of_rows.values().iter().map(|position| Some(positions.contains(position))).collect();
            batch = self.remove(batch, &is_out, reason)?;
        }
        Ok(batch)
    }

    /// Removes the rows that are true in `is_out`, and writes them to the quarantine.
    fn remove(&self, batch: RecordBatch, is_out: &BooleanArray, reason: &str) -> Result<RecordBatch> {
        if is_out.true_count() == 0 {
            return Ok(batch);
        }
        self.quarantine(&batch, is_out, reason)?;
        Ok(filter_record_batch(&batch, &arrow::compute::not(is_out)?)?)
    }
}
