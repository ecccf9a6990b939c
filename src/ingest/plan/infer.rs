//! Plans the columns of a load: the columns of its sources, their names in the table, and the types that are written.
//! Types of text files are inferred from their first rows. A later value that does not fit is a reject and never changes the type.

use std::{
    collections::{HashMap, HashSet},
    io::Read,
    sync::Arc,
};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit as ArrowUnit};

use super::changes::{self, SchemaChange};
use crate::{
    catalog::{Column, SourceSchema, TableVersion},
    error::{Error, Result},
    ingest::{
        load::Ingest,
        names::ColumnNameMap,
        options::Format,
        read::{
            column_parser::is_code,
            csv_source::CsvFile,
            int96,
            json_source::{JsonFile, JsonValue, fields},
            open::{raw_bytes, text_of},
            parquet_source::{time_scale, time_type},
            source_columns::{SourceColumns, instant_type, wider},
            time_parser::is_finer_than_micros,
        },
        sources::SourceFile,
    },
    storage::read_footer,
    time::TimeUnit,
};

/// The number of rows of each text file from which types are inferred.
const INFERRED_ROWS: usize = 10_000;

/// The columns that a load reads and writes.
#[derive(Debug)]
pub(crate) struct ColumnPlan {
    /// The columns that are written: the table's own first, then the declared schema's, then new ones in the order of the
    /// sources.
    pub(crate) schema: SchemaRef,
    /// The columns of each source.
    pub(crate) columns: Vec<SourceColumns>,
    pub(crate) names: ColumnNameMap,
    pub(crate) changes: Vec<SchemaChange>,
    /// The columns of the last source, which the table keeps for the next load.
    pub(crate) newest: Option<SourceSchema>,
}

/// Plans the columns from the beginnings of the sources and from the table.
pub(crate) async fn plan_columns(ingest: &Ingest, sources: &[SourceFile], table: Option<&TableVersion>) -> Result<ColumnPlan> {
    let mut names = ColumnNameMap::new(ingest, table);
    let (mut all, mut changed) = (Vec::with_capacity(sources.len()), Vec::new());
    let mut found: Vec<Field> = Vec::new();
    let mut positions: HashMap<String, usize> = HashMap::new();
    let declared = ingest.declared_types();
    let mut before = table.map(changes::before);
    for source in sources {
        let shown = source.shown();
        let columns = match source_columns(ingest, source, &names).await {
            Ok(columns) => columns,
            // A file that is being written can fail in any way. If it has changed, that is the error.
            Err(error) => {
                source.check_unchanged(None).await?;
                return Err(error);
            }
        };
        let mut written = Vec::with_capacity(columns.names.len());
        for (i, name) in columns.names.iter().enumerate() {
            written.push(Field::new(name, written_type(ingest, &declared, &shown, &columns, i)?, true));
            names.add_known(name);
        }
        let schema = Schema::new(written);
        for column in ingest.declared.time_columns() {
            if schema.column_with_name(&column.name).is_none() {
                return Err(Error::unknown_column(format!("file `{shown}`"), &column.name, &schema));
            }
        }
        for field in schema.fields() {
            match positions.get(field.name()).and_then(|position| found.get_mut(*position)) {
                None => {
                    positions.insert(field.name().clone(), found.len());
                    found.push(field.as_ref().clone());
                }
                Some(known) => {
                    let wider = wider(known.data_type(), field.data_type()).ok_or_else(|| Error::ColumnType {
                        subject: format!("file `{shown}`"),
                        column: field.name().clone(),
                        found: field.data_type().to_string(),
                        needed: format!(
                            "files before it hold {}; declare one type with `Ingest::column_type`",
                            known.data_type()
                        ),
                    })?;
                    *known = Field::new(field.name(), wider, true);
                }
            }
        }
        let after = changes::recorded(source.format, columns.recorded());
        if let Some(before) = &before {
            changed.extend(changes::between(before, &after, &source.name));
        }
        before = Some(after);
        all.push(columns);
    }
    // A JSON field may first appear after the sampled rows. If its type is declared, it has a column all the same.
    if sources.iter().any(|source| source.format == Format::JsonLines) {
        for (column, data_type) in ingest.types.iter().filter(|(column, _)| !is_time(ingest, column)) {
            if !positions.contains_key(column) {
                positions.insert(column.clone(), found.len());
                found.push(Field::new(column, data_type.clone(), true));
            }
        }
    }
    let schema = target_schema(ingest, found, table)?;
    Ok(ColumnPlan { schema, columns: all, names, changes: changed, newest: before })
}

fn target_schema(ingest: &Ingest, found: Vec<Field>, table: Option<&TableVersion>) -> Result<SchemaRef> {
    let found_untyped: Vec<Field> = found.iter().filter(|f| f.data_type() == &DataType::Null).cloned().collect();
    let found_as: HashMap<&str, &Field> = found.iter().map(|field| (field.name().as_str(), field)).collect();
    let mut fields = match table {
        Some(table) => table.columns().iter().map(Column::to_field).collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    let mut known: HashSet<String> = fields.iter().map(|field| field.name().clone()).collect();
    for field in &ingest.schema {
        if known.insert(field.name().clone()) {
            let typed = found_as.get(field.name().as_str()).map(|field| (*field).clone());
            fields.push(typed.unwrap_or_else(|| Field::new(field.name(), field.data_type().clone(), true)));
        }
    }
    for field in &found {
        // A column that was empty in all sampled rows has no type yet. As text it would store later numbers as text.
        if field.data_type() != &DataType::Null && known.insert(field.name().clone()) {
            fields.push(field.clone());
        }
    }
    // Columns without a type are not written, but a declaration may name them.
    let untyped = found_untyped.iter().filter(|field| !known.contains(field.name())).cloned();
    let declared = Schema::new(fields.iter().cloned().chain(untyped).collect::<Vec<_>>());
    ingest.declared.check(&format!("table `{}`", ingest.table), &declared)?;
    let schema = Schema::new(fields);
    for (column, _) in &ingest.types {
        if !known.contains(column) {
            return Err(Error::unknown_column(format!("the load into `{}`", ingest.table), column, &schema));
        }
    }
    for name in &ingest.partition_columns {
        if schema.column_with_name(name).is_some() {
            return Err(Error::Definition {
                subject: format!("table `{}`", ingest.table),
                reason: format!(
                    "`{name}` is a column of the facts and a partition column; rename one of them with `Ingest::rename` or \
                     `Ingest::partition_columns`"
                ),
            });
        }
    }
    Ok(Arc::new(schema))
}

/// The type that a column of a source has in a new table.
fn written_type(
    ingest: &Ingest,
    declared: &HashMap<&str, &DataType>,
    shown: &str,
    columns: &SourceColumns,
    at: usize,
) -> Result<DataType> {
    let (name, own, is_int96) = (&columns.names[at], &columns.types[at], columns.int96[at]);
    let declared = declared.get(name.as_str()).copied();
    let Some(time) = ingest.declared.time_columns().find(|column| column.name == *name) else {
        return Ok(match (declared, own) {
            (Some(declared), _) => declared.clone(),
            (None, _) if is_int96 => DataType::Timestamp(ArrowUnit::Microsecond, None),
            (None, own) => plain_type(own),
        });
    };
    if let Some(stored) = time_type(own, is_int96).filter(|stored| *stored != DataType::Null) {
        time_scale(ingest, shown, name, stored)?;
    }
    let is_nanos = |data_type: &DataType| matches!(data_type, DataType::Timestamp(ArrowUnit::Nanosecond, _));
    let nanos = declared.is_some_and(is_nanos)
        || (is_nanos(own) && !is_int96)
        || time.unit == Some(TimeUnit::Nanosecond)
        || columns.finer[at];
    Ok(instant_type(if nanos { ArrowUnit::Nanosecond } else { ArrowUnit::Microsecond }))
}

/// The type without encodings that writers choose for texts, dates and repeated values.
fn plain_type(own: &DataType) -> DataType {
    match own {
        DataType::Dictionary(_, value) => plain_type(value),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Date64 => DataType::Timestamp(ArrowUnit::Millisecond, None),
        other => other.clone(),
    }
}

async fn source_columns(ingest: &Ingest, source: &SourceFile, names: &ColumnNameMap) -> Result<SourceColumns> {
    if source.format == Format::Parquet {
        let footer = read_footer(&source.location, &source.object).await?;
        let found: Vec<String> = footer.schema().fields().iter().map(|field| field.name().trim().to_owned()).collect();
        let types: Vec<DataType> = footer.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        let names = names.with_found(ingest, &found).resolve_all(&source.shown(), &found)?;
        let int96 = int96::columns(&source.shown(), &footer)?;
        return Ok(SourceColumns { types, int96, ..SourceColumns::untyped(found, names) });
    }
    let (raw, _) = raw_bytes(source).await?;
    let (ingest, source, names) = (ingest.clone(), source.clone(), names.clone());
    let sample = move || match source.format {
        Format::JsonLines => json_columns(&ingest, &source, &names, raw),
        _ => csv_columns(&ingest, &source, &names, raw),
    };
    let task = tokio::task::spawn_blocking(sample);
    task.await.map_err(|e| Error::lost_task("inferring the schema", e))?
}

fn csv_columns(ingest: &Ingest, source: &SourceFile, names: &ColumnNameMap, raw: Box<dyn Read + Send>) -> Result<SourceColumns> {
    let mut file = CsvFile::open(ingest, source, text_of(source, raw)?)?;
    let names = names.with_found(ingest, &file.found).resolve_all(&source.shown(), &file.found)?;
    let is_time: Vec<bool> = names.iter().map(|name| is_time(ingest, name)).collect();
    let mut columns = SourceColumns::untyped(file.found.clone(), names);
    let mut missing = INFERRED_ROWS;
    while missing > 0 {
        let Some(block) = file.next(missing)? else { break };
        missing -= block.rows.len();
        for (i, is_time) in is_time.iter().enumerate() {
            // A row may be shorter than the header. A missing field has no value, whatever the texts for NULL are.
            let has = block.rows.iter().filter(|row| i < row.field_count as usize);
            for value in has.filter_map(|row| ingest.csv.value(block.field(row, i))) {
                let text = std::str::from_utf8(value).unwrap_or("a text");
                if *is_time {
                    columns.finer[i] |= is_finer_than_micros(text);
                } else if columns.types[i] != DataType::Utf8 {
                    columns.types[i] = wider(&columns.types[i], &type_of(text)).unwrap_or(DataType::Utf8);
                }
            }
        }
    }
    for (data_type, _) in columns.types.iter_mut().zip(&is_time).filter(|(_, is_time)| **is_time) {
        *data_type = DataType::Utf8;
    }
    Ok(columns)
}

fn json_columns(ingest: &Ingest, source: &SourceFile, names: &ColumnNameMap, raw: Box<dyn Read + Send>) -> Result<SourceColumns> {
    let mut file = JsonFile::open(source, text_of(source, raw)?, ingest.limits);
    let (mut columns, mut objects, mut first_reason) = (SourceColumns::default(), 0, None);
    let mut names = names.clone();
    let mut missing = INFERRED_ROWS;
    while missing > 0 {
        let Some(lines) = file.next(missing)? else { break };
        missing -= lines.len();
        for (line, number) in lines.iter() {
            let found = match fields(line, ingest.limits) {
                Ok(found) => found,
                // The line will be a reject.
                Err((_, reason)) => {
                    first_reason.get_or_insert_with(|| format!("line {number}: {reason}"));
                    continue;
                }
            };
            objects += 1;
            for (found, value) in &found {
                names.add_found(ingest, found.trim());
                let name = names.resolve(found.trim());
                let is_time = is_time(ingest, name);
                let data_type = match value {
                    _ if is_time => DataType::Utf8,
                    JsonValue::Null => DataType::Null,
                    JsonValue::Plain(text) => type_of(text),
                    JsonValue::Text(_) => DataType::Utf8,
                };
                columns.add_value(found.trim(), name, data_type, is_time && value.text().is_some_and(is_finer_than_micros));
            }
            if columns.names.len() > ingest.limits.columns {
                let reason = format!(
                    "its lines have more than {} different fields; raise `ReadLimits::columns` to read them",
                    ingest.limits.columns
                );
                return Err(Error::UnreadableFile { path: source.shown(), reason });
            }
        }
    }
    if objects == 0 {
        let reason = first_reason.map_or("it is empty; JSON lines have one object per line".into(), |reason| {
            format!("none of its lines is a JSON object of plain values; the first error: {reason}")
        });
        return Err(Error::UnreadableFile { path: source.shown(), reason });
    }
    Ok(columns)
}

fn is_time(ingest: &Ingest, name: &str) -> bool {
    ingest.declared.time_columns().any(|column| column.name == name)
}

/// The type of one value.
fn type_of(text: &str) -> DataType {
    let digits = text.trim_start_matches(['-', '+']);
    if is_code(text) {
        DataType::Utf8
    } else if text.parse::<i64>().is_ok() {
        DataType::Int64
    } else if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        // An integer beyond 64 bits. A float would lose digits.
        DataType::Utf8
    } else if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && text.parse::<f64>().is_ok() {
        DataType::Float64
    } else if matches!(text, "true" | "false" | "True" | "False" | "TRUE" | "FALSE") {
        DataType::Boolean
    } else {
        DataType::Utf8
    }
}
