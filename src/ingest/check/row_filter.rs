//! Sorted rows on their way to the files: strays and rows whose key is taken leave for the quarantine.
//! Keys need a second look at the rows, for which they are set aside on the disk; without keys rows pass straight through.

use std::collections::BTreeSet;

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

/// What rows are held against.
pub(crate) struct RowFilter<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) inspector: &'a Inspector,
    pub(crate) target: &'a Target,
    pub(crate) expectations: &'a [Expect],
    /// The only months whose rows are taken, if not all are.
    pub(crate) months: Option<&'a [Month]>,
    /// The table's name, its files that stay, and their place.
    pub(crate) table: &'a str,
    pub(crate) files: &'a [FileEntry],
    pub(crate) place: &'a Location,
}

/// Rows in the order of the table's files.
pub(crate) enum Rows {
    /// As they come from the sort.
    Passing(Option<RecordBatch>, SendableRecordBatchStream),
    /// Set aside; the rows at these places are kept out, each for its reason.
    Aside { rows: ParquetRecordBatchReader, out: Vec<(String, BTreeSet<i64>)>, _file: FinishedParquet },
}

impl RowFilter<'_> {
    /// Looks at keys, if some are to be unique, and counts the rows whose key is taken.
    pub(crate) async fn rows(&self, first: Option<RecordBatch>, mut rest: SendableRecordBatchStream) -> Result<Rows> {
        if !self.expectations.iter().any(Expect::is_unique) {
            return Ok(Rows::Passing(first, rest));
        }
        let mut spool = ParquetFile::create(self.target.sorted.clone(), writer_properties())?;
        let mut next = first;
        while let Some(batch) = next {
            spool.write(&self.without_strays(batch)?)?;
            next = rest.try_next().await?;
        }
        let spool = spool.finish()?;
        let mut out = Vec::new();
        for (i, expect) in self.expectations.iter().enumerate() {
            let Rule::Unique { columns } = &expect.rule else { continue };
            let schema = self.target.schema.clone();
            let compared = unique::Rows { table: self.table, files: self.files, place: self.place, load: &spool, schema };
            let places = repeated(self.engine, &compared, columns).await?;
            self.inspector.seen(|seen| seen.violations[i].count = places.len() as u64);
            if let Some(first) = places.first() {
                let shown = self.inspector.shown(*first);
                self.inspector.seen(|seen| seen.violations[i].first = Some(shown));
            }
            match expect.on_violation {
                OnViolation::Warn => {}
                OnViolation::Quarantine => out.push((expect.to_string(), places.into_iter().collect())),
                // The load ends with these rows; they are only listed.
                OnViolation::Stop => {
                    let listed = vec![(expect.to_string(), places.into_iter().collect())];
                    for batch in self.read(&spool)? {
                        self.without(batch?, &listed)?;
                    }
                }
            }
        }
        Ok(Rows::Aside { rows: self.read(&spool)?, out, _file: spool })
    }

    /// The next rows that are loaded.
    pub(crate) async fn next(&self, rows: &mut Rows) -> Result<Option<RecordBatch>> {
        match rows {
            Rows::Passing(first, rest) => {
                let next = match first.take() {
                    Some(first) => Some(first),
                    None => rest.try_next().await?,
                };
                next.map(|batch| self.without_strays(batch)).transpose()
            }
            Rows::Aside { rows, out, .. } => rows.next().transpose()?.map(|batch| self.without(batch, out)).transpose(),
        }
    }

    fn read(&self, spool: &FinishedParquet) -> Result<ParquetRecordBatchReader> {
        let failed = |source| Error::Io { path: "a temporary file".into(), source };
        let file = std::fs::File::open(spool.path()).map_err(failed)?;
        Ok(ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(self.engine.batch_rows()).build()?)
    }

    fn without_strays(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let Some(months) = self.months else { return Ok(batch) };
        let numbers = |name: &str| Ok::<_, Error>(batch.column(batch.schema_ref().index_of(name)?).as_primitive::<Int32Type>());
        let (years, numbers) = (numbers(YEAR)?, numbers(MONTH)?);
        let is_stray = |row| Month::new(years.value(row), numbers.value(row).unsigned_abs()).is_none_or(|m| !months.contains(&m));
        let is_out: BooleanArray = (0..batch.num_rows()).map(|row| Some(is_stray(row))).collect();
        self.keep_out(batch, &is_out, "outside the months that the load replaces")
    }

    fn without(&self, mut batch: RecordBatch, out: &[(String, BTreeSet<i64>)]) -> Result<RecordBatch> {
        for (reason, places) in out.iter().filter(|(_, places)| !places.is_empty()) {
            let place = batch.column(batch.schema_ref().index_of(ROW)?).as_primitive::<Int64Type>();
            let is_out: BooleanArray = place.values().iter().map(|place| Some(places.contains(place))).collect();
            batch = self.keep_out(batch, &is_out, reason)?;
        }
        Ok(batch)
    }

    fn keep_out(&self, batch: RecordBatch, is_out: &BooleanArray, reason: &str) -> Result<RecordBatch> {
        if is_out.true_count() == 0 {
            return Ok(batch);
        }
        self.inspector.set_aside(&batch, is_out, reason)?;
        Ok(filter_record_batch(&batch, &arrow::compute::not(is_out)?)?)
    }
}
