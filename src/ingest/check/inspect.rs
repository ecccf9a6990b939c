//! What a load looks at while its rows pass: a profile of each file, the months of its rows, and the expectations.
//! Rows that are not as expected leave here for the quarantine; nothing else is changed or held.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray},
    compute::{cast, filter, kernels::cmp},
    datatypes::{Int32Type, SchemaRef},
};

use super::{
    frequencies::Frequencies,
    profile::{Classes, ColumnProfile},
    quarantine::Quarantine,
    row_rules::{Violations, check_rules},
};
use crate::{
    catalog::{FactTable, expectation::Expect},
    error::{Error, Result},
    ingest::{
        row_check::RowCheck,
        sources::Source,
        target::{MONTH, Target, YEAR, source_and_line},
    },
    time::{Zone, month::Month},
};

/// Rows of a file in a month: how many, and the line of the first.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MonthRows {
    pub(crate) rows: u64,
    pub(crate) first_line: u64,
}

/// What was seen of a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileStats {
    /// Rows that could be read.
    pub(crate) rows: u64,
    pub(crate) quarantined: u64,
    /// One profile for each of the table's columns, over the rows that could be read.
    pub(crate) columns: Vec<ColumnProfile>,
    /// What they usually hold, beyond that.
    pub(crate) frequencies: Vec<Frequencies>,
    /// The rows that are loaded.
    pub(crate) months: BTreeMap<Month, MonthRows>,
    /// Rows that were known before they happened.
    pub(crate) reversed: u64,
    /// Does the text end without a newline?
    pub(crate) lacks_newline: bool,
}

impl FileStats {
    /// Takes in later rows of the file.
    fn add(&mut self, later: Self) {
        self.rows += later.rows;
        self.quarantined += later.quarantined;
        self.reversed += later.reversed;
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
pub(crate) struct Checked {
    source: usize,
    file: FileStats,
    violations: Vec<Violations>,
    /// Rows for the quarantine: their columns, reasons and lines.
    out: Option<(Vec<ArrayRef>, StringArray, Vec<i64>)>,
    rows: RecordBatch,
}

/// What was seen of a load.
#[derive(Default)]
pub(crate) struct LoadStats {
    pub(crate) files: Vec<FileStats>,
    /// One for each expectation.
    pub(crate) violations: Vec<Violations>,
    pub(crate) quarantine: Quarantine,
}

/// Watches the rows of a load.
pub(crate) struct Inspector {
    /// The sources as they are shown.
    names: Vec<String>,
    target: Target,
    schema: SchemaRef,
    event: usize,
    zone: Zone,
    known: Option<usize>,
    expectations: Vec<Expect>,
    seen: Mutex<LoadStats>,
}

impl Inspector {
    pub(crate) fn new(sources: &[Source], target: &Target, declared: &FactTable, expectations: &[Expect]) -> Result<Self> {
        let schema = target.schema.clone();
        let columns = schema.fields().len();
        let file = FileStats {
            columns: vec![ColumnProfile::default(); columns],
            frequencies: vec![Frequencies::default(); columns],
            ..Default::default()
        };
        let seen = LoadStats {
            files: vec![file; sources.len()],
            violations: vec![Violations::default(); expectations.len()],
            quarantine: Quarantine::default(),
        };
        Ok(Self {
            names: sources.iter().map(Source::shown).collect(),
            target: target.clone(),
            event: schema.index_of(declared.event_column())?,
            zone: declared.calendar(),
            known: declared.known_column().map(|name| schema.index_of(name)).transpose()?,
            schema,
            expectations: expectations.to_vec(),
            seen: Mutex::new(seen),
        })
    }

    /// Takes sorted rows out of a load: they are true in `is_out`.
    pub(crate) fn set_aside(&self, batch: &RecordBatch, is_out: &BooleanArray, reason: &str) -> Result<()> {
        let count = is_out.true_count();
        if count == 0 {
            return Ok(());
        }
        let out = arrow::compute::filter_record_batch(batch, is_out)?;
        let places = out.column(out.num_columns() - 1).as_primitive::<arrow::datatypes::Int64Type>();
        let places: Vec<(usize, i64)> = places.values().iter().map(|place| source_and_line(*place)).collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (source, _) in &places {
            seen.files[*source].quarantined += 1;
        }
        let columns = out.columns()[..self.schema.fields().len()].to_vec();
        let reasons = StringArray::from_iter_values(std::iter::repeat_n(reason, count));
        let files = StringArray::from_iter_values(places.iter().map(|(source, _)| &self.names[*source]));
        let lines = places.iter().map(|(_, line)| *line).collect::<Vec<_>>();
        seen.quarantine.add(&self.schema, columns, reasons, files, Int64Array::from(lines))
    }

    /// The name of the row at this place, for people.
    pub(crate) fn shown(&self, place: i64) -> String {
        let (source, line) = source_and_line(place);
        format!("`{}` line {line}", self.names[source])
    }

    /// Reads or changes what was seen so far.
    pub(crate) fn seen<T>(&self, look: impl FnOnce(&mut LoadStats) -> T) -> T {
        look(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RowCheck for Inspector {
    type Checked = Checked;

    fn check(&self, source: usize, mut lines: Vec<u64>, mut columns: Vec<ArrayRef>) -> Result<Checked> {
        let mut classes = Classes::default();
        let profiles = columns.iter().map(|column| ColumnProfile::of(column, &mut classes)).collect::<Result<_>>()?;
        let frequencies = columns.iter().map(|column| Frequencies::of(column, self.zone)).collect::<Result<_>>()?;
        let mut file = FileStats { rows: lines.len() as u64, columns: profiles, frequencies, ..FileStats::default() };
        if let Some(known) = self.known {
            let known = cast(&columns[known], columns[self.event].data_type())?;
            file.reversed = cmp::lt(&known, &columns[self.event])?.true_count() as u64;
        }
        let name = &self.names[source];
        let place = |row: usize| format!("`{name}` line {}", lines[row]);
        let mut violations = vec![Violations::default(); self.expectations.len()];
        let verdict = check_rules(&self.expectations, &mut violations, &self.schema, &columns, place)?;
        let mut out = None;
        if verdict.any_out {
            let is_out: BooleanArray = verdict.reasons.iter().map(|reason| Some(!reason.is_empty())).collect();
            let is_in = arrow::compute::not(&is_out)?;
            let columns_out = columns.iter().map(|column| Ok(filter(column, &is_out)?)).collect::<Result<Vec<_>>>()?;
            let places: Vec<i64> =
                lines.iter().zip(is_out.values()).filter(|(_, out)| *out).map(|(line, _)| *line as i64).collect();
            file.quarantined = places.len() as u64;
            let reasons = StringArray::from_iter_values(verdict.reasons.iter().filter(|reason| !reason.is_empty()));
            out = Some((columns_out, reasons, places));
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
        Ok(Checked { source, file, violations, out, rows })
    }

    fn count(&self, checked: Checked) -> Result<RecordBatch> {
        let Checked { source, file, violations, out, rows } = checked;
        let mut guard = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = &mut *guard;
        seen.files[source].add(file);
        for (all, found) in seen.violations.iter_mut().zip(violations) {
            all.count += found.count;
            all.first = all.first.take().or(found.first);
        }
        if let Some((columns, reasons, places)) = out {
            let files = StringArray::from_iter_values(std::iter::repeat_n(&self.names[source], places.len()));
            seen.quarantine.add(&self.schema, columns, reasons, files, Int64Array::from(places))?;
        }
        Ok(rows)
    }

    fn text_ended(&self, source: usize, lacks_newline: bool) {
        self.seen(|seen| seen.files[source].lacks_newline = lacks_newline);
    }
}
