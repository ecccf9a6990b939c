//! Makes the quality report of a load from what was counted while its rows passed.

use arrow::datatypes::Schema;

use super::{
    anomaly::Anomaly,
    drift::measure_drift,
    duplicates::Duplicates,
    history::{FileSummary, History},
    inspect::Inspector,
    profile::ColumnProfile,
    quality::{ColumnQuality, ExpectationQuality, FileQuality, QualityReport},
    row_rules::Violations,
};
use crate::{
    catalog::{FORMAT, expectation::Expect},
    ingest::{load::Ingest, rejects::Rejects},
    name::ContentId,
};

/// What a quality report is made from.
pub(crate) struct Counts<'a> {
    pub(crate) ingest: &'a Ingest,
    pub(crate) load: ContentId,
    pub(crate) schema: &'a Schema,
    pub(crate) expectations: &'a [Expect],
    pub(crate) rejects: &'a Rejects,
    pub(crate) inspector: &'a Inspector,
    pub(crate) duplicates: &'a Duplicates,
    pub(crate) files: &'a [FileSummary],
    /// Rows that were written.
    pub(crate) rows: u64,
    pub(crate) quarantined: u64,
}

impl Counts<'_> {
    /// The report of the load. The table's history grows by the load's files.
    pub(crate) fn report(&self, anomalies: Vec<Anomaly>, history: History, notes: Vec<String>) -> QualityReport {
        let (drift, history) = measure_drift(self.schema, history, self.files);
        let known = self.ingest.declared.known_column();
        QualityReport {
            format: FORMAT,
            table: self.ingest.table.clone(),
            load: self.load,
            rows: self.rows,
            rejects: self.rejects.by_reason(),
            quarantined: self.quarantined,
            outside_month: self.files.iter().map(FileSummary::rows_outside_month).sum(),
            known_before_event: known.map(|_| self.files.iter().map(|file| file.stats.known_before_event).sum()),
            never_known: self.never_known(),
            duplicates: self.duplicates.count(),
            duplicates_are_exact: self.duplicates.is_exact(),
            ties: self.duplicates.ties(),
            columns: self.columns(),
            files: self.files.iter().map(file_quality).collect(),
            expectations: self.expectations(),
            anomalies,
            drift,
            notes,
            history,
        }
    }

    /// Rows without a known-at, if it is a column.
    fn never_known(&self) -> Option<u64> {
        let column = self.schema.index_of(self.ingest.declared.known_column()?).ok()?;
        Some(self.files.iter().filter_map(|file| file.stats.columns.get(column)).map(|profile| profile.nulls).sum())
    }

    fn columns(&self) -> Vec<ColumnQuality> {
        let merged = |column: usize| {
            let mut all = ColumnProfile::default();
            self.files.iter().for_each(|file| all.merge(&file.stats.columns[column]));
            all
        };
        let columns = self.schema.fields().iter().enumerate();
        columns.map(|(i, field)| ColumnQuality::new(field.name(), field.data_type().to_string(), merged(i))).collect()
    }

    fn expectations(&self) -> Vec<ExpectationQuality> {
        let violations = self.inspector.stats(|stats| stats.violations.clone());
        let quality = |(expect, found): (&Expect, Violations)| ExpectationQuality {
            expect: expect.clone(),
            violations: found.count,
            first: found.first,
        };
        self.expectations.iter().zip(violations).map(quality).collect()
    }
}

fn file_quality(file: &FileSummary) -> FileQuality {
    FileQuality {
        name: file.name.clone(),
        rows: file.stats.rows,
        rejected: file.rows_rejected(),
        quarantined: file.stats.quarantined,
        month: file.month(),
        outside_month: file.rows_outside_month(),
        lacks_newline: file.stats.lacks_newline,
    }
}
