//! Reads Parquet files, batch by batch, into the table's columns. Times become instants.
//! A value that the table's type cannot hold exactly is a reject. It is never rounded or made NULL.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, new_null_array},
    compute::{cast, filter, kernels::cmp::not_distinct},
    datatypes::{DataType, Field, TimeUnit as ArrowUnit},
};
use futures::{StreamExt, stream::BoxStream};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
    },
    errors::ParquetError,
};

use super::{
    column_parser::{ColumnParser, Typing, timestamps},
    int96,
    source_columns::SourceColumns,
    time_parser::TimeParser,
};
use crate::{
    error::{Error, Result},
    ingest::{
        excerpt::excerpt,
        load::Ingest,
        rejects::{Reject, RejectReason, Rejects},
        sources::SourceFile,
        target::Target,
    },
    storage::{ObjectReader, contained, contained_rows, read_unchanged_footer},
    time::{TimeScale, Zone, stored_integers},
};

/// Rows of a Parquet file.
pub(crate) struct ParquetRows {
    /// The file's columns, with INT96 times in whole seconds.
    batch: RecordBatch,
    /// Only the INT96 columns, in nanoseconds that wrap.
    wrapped: Option<RecordBatch>,
}

impl ParquetRows {
    pub(crate) fn len(&self) -> usize {
        self.batch.num_rows()
    }
}

/// The batches of a Parquet file, with its own columns.
pub(crate) async fn parquet_batches(
    source: &SourceFile,
    columns: &SourceColumns,
    batch_rows: usize,
) -> Result<BoxStream<'static, Result<ParquetRows>>> {
    let shown = source.shown();
    let unreadable = move |e: ParquetError| Error::UnreadableFile { path: shown.clone(), reason: e.to_string() };
    let reader = || ObjectReader::new(&source.location, source.object.clone()).only_unchanged();
    let footer = read_unchanged_footer(&source.location, &source.object).await?;
    let metadata = footer.metadata().clone();
    let plain = ParquetRecordBatchStreamBuilder::new_with_metadata(reader(), footer).with_batch_size(batch_rows);
    let found = plain.schema().fields().iter().map(|field| field.name().trim());
    if !found.eq(columns.found.iter().map(String::as_str)) {
        let reason = "its columns have changed since the load began; load it again once it is complete".into();
        return Err(Error::UnreadableFile { path: source.shown(), reason });
    }
    if !columns.int96.contains(&true) {
        let stream = contained(&source.shown(), || plain.build().map_err(&unreadable))?;
        let rows = move |batch: parquet::errors::Result<RecordBatch>| {
            batch.map(|batch| ParquetRows { batch, wrapped: None }).map_err(&unreadable)
        };
        return Ok(contained_rows(source.shown(), stream.map(rows)).boxed());
    }
    let given = |unit: ArrowUnit| {
        let options = ArrowReaderOptions::new().with_schema(Arc::new(int96::in_unit(plain.schema(), &columns.int96, unit)));
        let given = || ArrowReaderMetadata::try_new(metadata.clone(), options).map_err(&unreadable);
        let metadata = contained(&source.shown(), given)?;
        Ok::<_, Error>(ParquetRecordBatchStreamBuilder::new_with_metadata(reader(), metadata).with_batch_size(batch_rows))
    };
    let roots = columns.int96.iter().enumerate().filter(|(_, is_int96)| **is_int96).map(|(root, _)| root);
    let mask = ProjectionMask::roots(plain.parquet_schema(), roots);
    let (seconds, wrapped) = (given(ArrowUnit::Second)?, given(ArrowUnit::Nanosecond)?.with_projection(mask));
    let wrapped = contained(&source.shown(), || wrapped.build().map_err(&unreadable))?;
    let seconds = contained(&source.shown(), || seconds.build().map_err(&unreadable))?;
    let rows = move |(batch, wrapped): (parquet::errors::Result<RecordBatch>, parquet::errors::Result<RecordBatch>)| {
        let (batch, wrapped) = (batch.map_err(&unreadable)?, wrapped.map_err(&unreadable)?);
        if batch.num_rows() != wrapped.num_rows() {
            return Err(unreadable(ParquetError::General("its columns differ in their number of rows".into())));
        }
        Ok(ParquetRows { batch, wrapped: Some(wrapped) })
    };
    Ok(contained_rows(source.shown(), seconds.zip(wrapped).map(rows)).boxed())
}

/// What a source is read into.
pub(crate) struct ParquetReading<'a> {
    pub(crate) ingest: &'a Ingest,
    pub(crate) source: &'a SourceFile,
    pub(crate) target: &'a Target,
    pub(crate) rejects: &'a Rejects,
}

/// Rows that cannot be read: the column, the value and the reason of the first error of each row.
type Refused = BTreeMap<usize, (String, String, RejectReason)>;

/// Converts rows of a source to the table's columns. Returns the numbers of the rows in the file, from 1, and the columns. Rows with
/// values that do not fit are added to the rejects and left out.
pub(crate) fn conform(
    reading: &ParquetReading<'_>,
    columns: &SourceColumns,
    first_row: u64,
    rows: &ParquetRows,
) -> Result<(Vec<u64>, Vec<ArrayRef>)> {
    let ParquetReading { ingest, source, target, rejects, .. } = *reading;
    let shown = source.shown();
    let mut conformed = Vec::with_capacity(target.schema.fields().len());
    let mut refused = Refused::new();
    let declared = ingest.declared_types();
    for field in target.schema.fields() {
        let Some(position) = columns.position(field.name()) else {
            conformed.push(new_null_array(field.data_type(), rows.len()));
            continue;
        };
        let array = decoded(rows.batch.column(position))?;
        let is_time = ingest.declared.time_columns().any(|column| column.name == *field.name());
        let (array, reasons) = match (&rows.wrapped, columns.int96[position], is_time) {
            (Some(wrapped), true, _) => {
                let at = columns.int96[..position].iter().filter(|is_int96| **is_int96).count();
                let local_times = int96::local_times_ns(&shown, &array, wrapped.column(at))?;
                from_local_times(ingest, &shown, field, &local_times)?
            }
            (_, _, true) => times(ingest, &shown, field, &array)?,
            _ => {
                let is_declared = declared.contains_key(field.name().as_str());
                let typing = if is_declared { Typing::Declared } else { Typing::Inferred };
                values(ingest, &shown, field, typing, &array)?
            }
        };
        for (row, reason) in reasons {
            let value = || arrow::util::display::array_value_to_string(rows.batch.column(position), row).unwrap_or_default();
            refused.entry(row).or_insert_with(|| (field.name().clone(), value(), reason));
        }
        // Without an event time a row has no month. Without a known-at it is a fact that is never visible.
        if ingest.declared.event_column() == Some(field.name()) {
            for row in (0..array.len()).filter(|row| array.is_null(*row)) {
                refused.entry(row).or_insert_with(|| (field.name().clone(), String::new(), "the time is empty".into()));
            }
        }
        conformed.push(array);
    }
    let numbers = first_row + 1..=first_row + rows.len() as u64;
    if refused.is_empty() {
        return Ok((numbers.collect(), conformed));
    }
    for (row, (column, value, reason)) in &refused {
        let line = first_row + *row as u64 + 1;
        let (column, value) = (excerpt(column).into_owned(), excerpt(value).into_owned());
        rejects.add(&shown, &Reject { line, column, value, reason: reason.clone() })?;
    }
    let keep = BooleanArray::from_iter((0..rows.len()).map(|row| Some(!refused.contains_key(&row))));
    let taken = numbers.enumerate().filter(|(row, _)| !refused.contains_key(row)).map(|(_, number)| number).collect();
    Ok((taken, conformed.iter().map(|array| Ok(filter(array, &keep)?)).collect::<Result<_>>()?))
}

/// An array, and the reasons for which some of its rows cannot be read.
type Conformed = (ArrayRef, Vec<(usize, RejectReason)>);

/// A column without its dictionary.
fn decoded(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Dictionary(_, value) => Ok(cast(array, value)?),
        _ => Ok(array.clone()),
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_floating() || matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..))
}

/// The type as which the values of a time column are read; `None` for texts, which are parsed instead.
pub(crate) fn time_type(data_type: &DataType, is_int96: bool) -> Option<DataType> {
    match data_type {
        DataType::Dictionary(_, value) => time_type(value, is_int96),
        _ if is_int96 => Some(DataType::Timestamp(ArrowUnit::Nanosecond, None)),
        text if is_text(text) => None,
        DataType::Date64 => Some(DataType::Timestamp(ArrowUnit::Millisecond, None)),
        number if number.is_integer() || number.is_floating() => Some(DataType::Int64),
        other => Some(other.clone()),
    }
}

/// The unit and zone of a column of the table's times.
pub(crate) fn time_scale(ingest: &Ingest, shown: &str, column: &str, data_type: DataType) -> Result<TimeScale> {
    let schema = arrow::datatypes::Schema::new(vec![Field::new(column, data_type, true)]);
    let known = ingest.declared.time_columns().find(|time| time.name == column);
    let declared = known.cloned().unwrap_or_else(|| column.into());
    ingest.declared.scale(&format!("file `{shown}`"), &declared, &schema)
}

fn unit_of(field: &Field) -> ArrowUnit {
    match field.data_type() {
        DataType::Timestamp(unit, _) => *unit,
        _ => ArrowUnit::Microsecond,
    }
}

/// The instants of a column of the table's times.
fn times(ingest: &Ingest, shown: &str, field: &Field, array: &ArrayRef) -> Result<Conformed> {
    let parser = TimeParser::of_column(ingest, field.name(), unit_of(field));
    let Some(stored) = time_type(array.data_type(), false) else {
        let texts = cast(array, &DataType::Utf8)?;
        let texts: &StringArray = texts.as_string();
        return Ok(collected(field, texts.iter().map(|text| text.map(|text| parser.instant(text)))));
    };
    let scale = time_scale(ingest, shown, field.name(), stored.clone())?;
    let (numbers, mut reasons) = match array.data_type() {
        from if is_number(from) => exactly(shown, field, array, &DataType::Int64)?,
        _ => (array.clone(), Vec::new()),
    };
    let numbers = stored_integers(&numbers)?;
    let instant = |value: i64| match stored {
        DataType::Int64 => parser.epoch(value, scale.unit),
        _ => parser.to_unit(scale.instant_ns(value)),
    };
    let (instants, further) = collected(field, numbers.iter().map(|value| value.map(&instant)));
    reasons.extend(further);
    Ok((instants, reasons))
}

/// Timestamps from INT96 local times.
fn from_local_times(ingest: &Ingest, shown: &str, field: &Field, local_times: &[Option<i128>]) -> Result<Conformed> {
    let DataType::Timestamp(unit, zone) = field.data_type() else {
        return Err(refused(shown, field, "INT96"));
    };
    let parser = TimeParser::of_column(ingest, field.name(), *unit);
    let clock = match zone {
        None => Zone::UTC,
        Some(_) => time_scale(ingest, shown, field.name(), DataType::Timestamp(ArrowUnit::Nanosecond, None))?.zone,
    };
    Ok(collected(
        field,
        local_times.iter().map(|local_time| local_time.map(|local_ns| parser.to_unit(clock.instant_ns(local_ns)))),
    ))
}

/// A column of timestamps. Rows with a reason and rows without a value are NULL.
fn collected(field: &Field, values: impl Iterator<Item = Option<Result<i64, RejectReason>>>) -> Conformed {
    let mut reasons = Vec::new();
    let values: Int64Array = values
        .enumerate()
        .map(|(row, value)| match value? {
            Ok(value) => Some(value),
            Err(reason) => {
                reasons.push((row, reason));
                None
            }
        })
        .collect();
    (timestamps(values, field.data_type()), reasons)
}

/// The values of any other column.
fn values(ingest: &Ingest, shown: &str, field: &Field, typing: Typing, array: &ArrayRef) -> Result<Conformed> {
    use DataType::{Boolean, Date32, Date64, Null, Timestamp};
    let (from, to) = (array.data_type(), field.data_type());
    match (from, to) {
        (from, to) if from == to => Ok((array.clone(), Vec::new())),
        (Null, _) => Ok((new_null_array(to, array.len()), Vec::new())),
        (from, to) if is_text(from) && is_text(to) => Ok((cast(array, to)?, Vec::new())),
        (from, to) if is_number(from) && is_number(to) => exactly(shown, field, array, to),
        (Timestamp(_, None), Timestamp(unit, Some(_))) => {
            let scale = time_scale(ingest, shown, field.name(), from.clone())?;
            let parser = TimeParser { zone: None, epoch: None, format: None, unit: *unit };
            let numbers = stored_integers(array)?;
            Ok(collected(field, numbers.iter().map(|value| value.map(|value| parser.to_unit(scale.instant_ns(value))))))
        }
        (Timestamp(_, Some(_)), Timestamp(_, Some(_)))
        | (Timestamp(_, None) | Date32 | Date64, Timestamp(_, None) | Date32 | Date64) => exactly(shown, field, array, to),
        (from, _) if is_text(from) && typing == Typing::Declared => parsed(ingest, field, array),
        (from, to) if is_text(to) && typing == Typing::Declared && (is_number(from) || matches!(from, Boolean | Date32)) => {
            Ok((cast(array, to)?, Vec::new()))
        }
        _ => Err(refused(shown, field, &from.to_string())),
    }
}

fn refused(shown: &str, field: &Field, found: &str) -> Error {
    Error::ColumnType {
        subject: format!("file `{shown}`"),
        column: field.name().clone(),
        found: found.into(),
        needed: format!(
            "the table's column is {}; cast the column before the load, declare its type with `Ingest::column_type`, or load the \
             file into another table",
            field.data_type()
        ),
    }
}

/// Texts, parsed as in CSV files.
fn parsed(ingest: &Ingest, field: &Field, array: &ArrayRef) -> Result<Conformed> {
    let texts = cast(array, &DataType::Utf8)?;
    let texts: &StringArray = texts.as_string();
    let (parser, mut reasons) = (ColumnParser::new(field, ingest, Typing::Declared), Vec::new());
    let values = parser.parse(texts.iter().map(|text| text.map(str::as_bytes)), |row, reason| reasons.push((row, reason)))?;
    Ok((values, reasons))
}

/// Casts values. A value that does not come back unchanged from a cast in the other direction has a reason.
fn exactly(shown: &str, field: &Field, array: &ArrayRef, to: &DataType) -> Result<Conformed> {
    let cast_to =
        |array: &ArrayRef, to: &DataType| cast(array, to).map_err(|_| refused(shown, field, &array.data_type().to_string()));
    let there = cast_to(array, to)?;
    let same = not_distinct(&cast_to(&there, array.data_type())?, array)?;
    let reason = || {
        format!(
            "the value is not exact as {to}, the type of the table's column; a table that holds it declares \
             `Ingest::column_type(\"{}\", DataType::{})` in its first load",
            field.name(),
            array.data_type()
        )
    };
    let reasons = (0..array.len()).filter(|row| !same.value(*row)).map(|row| (row, reason().into())).collect();
    Ok((there, reasons))
}
