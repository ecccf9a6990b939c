//! Checks the rows of a load on their way from the readers to the sort: profiles each file, counts the months of its rows, and
//! applies the expectations that a single row can break.
//!
//! Rows that break an expectation go to the quarantine. All other rows pass unchanged.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray},
    compute::{cast, filter, kernels::cmp},
    datatypes::{Int32Type, Int64Type, SchemaRef},
};

use super::{
    frequencies::Frequencies,
    history::FileSummary,
    profile::{Classes, ColumnProfile},
    quarantine::Quarantine,
    row_rules::{Violations, check_rules},
};
use crate::{
    catalog::{FactTable, expectation::Expect},
    error::{Error, Result},
    ingest::{
        rejects::Rejects,
        row_check::RowCheck,
        sources::SourceFile,
        target::{MONTH, Target, YEAR, source_and_line},
    },
    time::{Zone, month::Month},
};

/// How many rows of a file lie in a month, and the line of the first of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MonthRows {
    pub(crate) rows: u64,
    pub(crate) first_line: u64,
}

/// What was counted in a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileStats {
    /// Rows that could be read.
    pub(crate) rows: u64,
    pub(crate) quarantined: u64,
    /// A profile for each of the table's columns, over the rows that could be read.
    pub(crate) columns: Vec<ColumnProfile>,
    /// The value frequencies of each of the table's columns, over the same rows.
    pub(crate) frequencies: Vec<Frequencies>,
    /// The rows that are loaded, by month.
    pub(crate) months: BTreeMap<Month, MonthRows>,
    /// Rows whose known-at lies before their event time.
    pub(crate) known_before_event: u64,
    /// Does the text end without a newline?
    pub(crate) lacks_newline: bool,
}

impl FileStats {
    /// Adds later rows of the file.
    fn add(&mut self, later: Self) {
        self.rows += later.rows;
        self.quarantined += later.quarantined;
        self.known_before_event += later.known_before_event;
        for (profile, of_later) in self.columns.iter_mut().zip(&later.columns) {
            profile.merge(of_later);
        }
        for (frequencies, of_later) in self.frequencies.iter_mut().zip(&later.frequencies) {
            frequencies.merge(of_later);
        }
        for (month, rows) in later.months {
            self.months.entry(month).or_insert(MonthRows { rows: 0, ..rows }).rows += rows.rows;
        }
    }
}

/// Rows of a source that were checked and are not yet counted.
pub(crate) struct CheckedRows {
    source: usize,
    file: FileStats,
    violations: Vec<Violations>,
    /// Rows for the quarantine: their columns, reasons and lines.
    out: Option<(Vec<ArrayRef>, StringArray, Vec<i64>)>,
    rows: RecordBatch,
}

/// What was counted in a load.
#[derive(Default)]
pub(crate) struct LoadStats {
    pub(crate) files: Vec<FileStats>,
    /// One for each expectation.
    pub(crate) violations: Vec<Violations>,
    pub(crate) quarantine: Quarantine,
}

/// Checks and counts the rows of a load.
pub(crate) struct Inspector {
    /// The sources, as messages show them.
    names: Vec<String>,
    target: Target,
    schema: SchemaRef,
    event: usize,
    zone: Zone,
    known: Option<usize>,
    expectations: Vec<Expect>,
    stats: Mutex<LoadStats>,
}

impl Inspector {
    pub(crate) fn new(sources: &[SourceFile], target: &Target, declared: &FactTable, expectations: &[Expect]) -> Result<Self> {
        let schema = target.schema.clone();
        let columns = schema.fields().len();
        let file = FileStats {
            columns: vec![ColumnProfile::default(); columns],
            frequencies: vec![Frequencies::default(); columns],
            ..Default::default()
        };
        let stats = LoadStats {
            files: vec![file; sources.len()],
            violations: vec![Violations::default(); expectations.len()],
            quarantine: Quarantine::default(),
        };
        Ok(Self {
            names: sources.iter().map(SourceFile::shown).collect(),
            target: target.clone(),
            event: schema.index_of(&declared.fact_times("the table of a load")?.event.name)?,
            zone: declared.calendar(),
            known: declared.known_column().map(|name| schema.index_of(name)).transpose()?,
            schema,
            expectations: expectations.to_vec(),
            stats: Mutex::new(stats),
        })
    }

    /// Writes sorted rows to the quarantine: those that are true in `is_out`.
    pub(crate) fn quarantine(&self, batch: &RecordBatch, is_out: &BooleanArray, reason: &str) -> Result<()> {
        let count = is_out.true_count();
        if count == 0 {
            return Ok(());
        }
        let out = arrow::compute::filter_record_batch(batch, is_out)?;
        let positions = out.column(out.num_columns() - 1).as_primitive::<Int64Type>();
        let positions: Vec<(usize, i64)> = positions.values().iter().map(|position| source_and_line(*position)).collect();
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        for (source, _) in &positions {
            stats.files[*source].quarantined += 1;
        }
        let columns = out.columns()[..self.schema.fields().len()].to_vec();
        let reasons = StringArray::from_iter_values(std::iter::repeat_n(reason, count));
        let files = StringArray::from_iter_values(positions.iter().map(|(source, _)| &self.names[*source]));
        let lines = positions.iter().map(|(_, line)| *line).collect::<Vec<_>>();
        stats.quarantine.add(&self.schema, columns, reasons, files, Int64Array::from(lines))
    }

    /// File and line of the row at a position, as messages show them.
    pub(crate) fn shown(&self, position: i64) -> String {
        let (source, line) = source_and_line(position);
        format!("`{}` line {line}", self.names[source])
    }

    /// Reads or changes the counts.
    pub(crate) fn stats<T>(&self, f: impl FnOnce(&mut LoadStats) -> T) -> T {
        f(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The sources and what was counted in each of them so far.
    pub(crate) fn summaries(&self, sources: &[SourceFile], rejects: &Rejects) -> Vec<FileSummary> {
        let summary = |(source, stats): (&SourceFile, FileStats)| {
            let shown = source.shown();
            FileSummary { name: source.name.clone(), rejected: rejects.of_file(&shown), shown, stats }
        };
        sources.iter().zip(self.stats(|stats| stats.files.clone())).map(summary).collect()
    }
}

impl RowCheck for Inspector {
    type Checked = CheckedRows;

    fn check(&self, source: usize, mut lines: Vec<u64>, mut columns: Vec<ArrayRef>) -> Result<CheckedRows> {
        let mut classes = Classes::default();
        let profiles = columns.iter().map(|column| ColumnProfile::of(column, &mut classes)).collect::<Result<_>>()?;
        let frequencies = columns.iter().map(|column| Frequencies::of(column, self.zone)).collect::<Result<_>>()?;
        let mut file = FileStats { rows: lines.len() as u64, columns: profiles, frequencies, ..FileStats::default() };
        if let Some(known) = self.known {
            let known = cast(&columns[known], columns[self.event].data_type())?;
            file.known_before_event = cmp::lt(&known, &columns[self.event])?.true_count() as u64;
        }
        let name = &self.names[source];
        let shown = |row: usize| format!("`{name}` line {}", lines[row]);
        let mut violations = vec![Violations::default(); self.expectations.len()];
        let broken = check_rules(&self.expectations, &mut violations, &self.schema, &columns, self.zone, shown)?;
        let mut out = None;
        if broken.any_out {
            let is_out: BooleanArray = broken.reasons.iter().map(|reason| Some(!reason.is_empty())).collect();
            let is_in = arrow::compute::not(&is_out)?;
            let columns_out = columns.iter().map(|column| Ok(filter(column, &is_out)?)).collect::<Result<Vec<_>>>()?;
            let lines_out: Vec<i64> =
                lines.iter().zip(is_out.values()).filter(|(_, out)| *out).map(|(line, _)| *line as i64).collect();
            file.quarantined = lines_out.len() as u64;
            let reasons = StringArray::from_iter_values(broken.reasons.iter().filter(|reason| !reason.is_empty()));
            out = Some((columns_out, reasons, lines_out));
            columns = columns.iter().map(|column| Ok(filter(column, &is_in)?)).collect::<Result<_>>()?;
            lines = lines.iter().zip(is_in.values()).filter(|(_, is_in)| *is_in).map(|(line, _)| *line).collect();
        }
        let rows = self.target.batch(source, &lines, columns)?;
        let number = |name: &str| Ok::<_, Error>(rows.column(rows.schema_ref().index_of(name)?).as_primitive::<Int32Type>());
        let (years, months) = (number(YEAR)?.values(), number(MONTH)?.values());
        let mut row = 0;
        while row < lines.len() {
            let same = (row..lines.len()).take_while(|&i| years[i] == years[row] && months[i] == months[row]).count();
            if let Some(month) = Month::new(years[row], months[row].unsigned_abs()) {
                let entry = file.months.entry(month).or_insert(MonthRows { rows: 0, first_line: lines[row] });
                entry.rows += same as u64;
            }
            row += same;
        }
        Ok(CheckedRows { source, file, violations, out, rows })
    }

    fn count(&self, checked: CheckedRows) -> Result<RecordBatch> {
        let CheckedRows { source, file, violations, out, rows } = checked;
        let mut guard = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = &mut *guard;
        stats.files[source].add(file);
        for (all, found) in stats.violations.iter_mut().zip(violations) {
            all.count += found.count;
            all.first = all.first.take().or(found.first);
        }
        if let Some((columns, reasons, lines)) = out {
            let files = StringArray::from_iter_values(std::iter::repeat_n(&self.names[source], lines.len()));
            stats.quarantine.add(&self.schema, columns, reasons, files, Int64Array::from(lines))?;
        }
        Ok(rows)
    }

    fn text_ended(&self, source: usize, lacks_newline: bool) {
        self.stats(|stats| stats.files[source].lacks_newline = lacks_newline);
    }
}
