//! The schema of a load: what the sources hold, what the table holds already, and what was declared.
//! It looks at the first rows of each CSV file; a later value that does not fit is a reject, never another type.

use std::{io::Read, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit as ArrowUnit};

use super::{
    Ingest,
    csv_source::{csv_reader, header, is_code},
    sources::{Source, SourceFormat},
};
use crate::{
    catalog::{Column, TableVersion, refuse_int96},
    error::{Error, Result},
    storage::read_footer,
    time::TimeUnit,
};

/// How many rows of each CSV file decide its types.
const INFERRED_ROWS: usize = 10_000;

/// The instant type of this library's files.
pub(crate) fn instant_type(unit: ArrowUnit) -> DataType {
    DataType::Timestamp(unit, Some("UTC".into()))
}

/// The columns of the files that a load writes: the table's own first, then new ones in the order of the sources.
pub(crate) async fn target_schema(ingest: &Ingest, sources: &[Source], table: Option<&TableVersion>) -> Result<SchemaRef> {
    let mut found: Vec<Field> = Vec::new();
    for source in sources {
        let schema = source_schema(ingest, source).await?;
        for column in ingest.declared.time_columns() {
            if schema.column_with_name(&column.name).is_none() {
                return Err(Error::unknown_column(format!("file `{}`", source.shown()), &column.name, &schema));
            }
        }
        for field in schema.fields() {
            match found.iter_mut().find(|known| known.name() == field.name()) {
                None => found.push(field.as_ref().clone()),
                Some(known) => {
                    let wider = wider(known.data_type(), field.data_type()).ok_or_else(|| Error::ColumnType {
                        place: format!("file `{}`", source.shown()),
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
    }
    let found_untyped: Vec<Field> = found.iter().filter(|f| f.data_type() == &DataType::Null).cloned().collect();
    let mut fields = match table {
        Some(table) => table.columns().iter().map(Column::to_field).collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    for field in found {
        // A column that was empty in all rows looked at has no type yet; as a text it would keep later numbers as texts.
        if field.data_type() != &DataType::Null && fields.iter().all(|known| known.name() != field.name()) {
            fields.push(field);
        }
    }
    // Columns without a type are not written, and yet they are there: a declaration may name them.
    let untyped = found_untyped.iter().filter(|f| fields.iter().all(|known| known.name() != f.name())).cloned();
    let declared = Schema::new(fields.iter().cloned().chain(untyped).collect::<Vec<_>>());
    ingest.declared.check(&format!("table `{}`", ingest.table), &declared)?;
    let schema = Schema::new(fields);
    for (column, _) in &ingest.types {
        if schema.column_with_name(column).is_none() {
            return Err(Error::unknown_column(format!("the load into `{}`", ingest.table), column, &schema));
        }
    }
    for name in &ingest.partition_columns {
        if schema.column_with_name(name).is_some() {
            return Err(Error::Definition {
                subject: format!("table `{}`", ingest.table),
                reason: format!(
                    "the facts have a column `{name}` and so has the partitioning; rename one with `Ingest::rename` or \
                     `Ingest::partition_columns`"
                ),
            });
        }
    }
    Ok(Arc::new(schema))
}

/// The narrowest type that holds the values of both.
fn wider(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::{Boolean, Float32, Float64, Int8, Int16, Int32, Int64, Null, UInt8, UInt16, UInt32, Utf8};
    let integer = |t: &DataType| matches!(t, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32);
    let float = |t: &DataType| matches!(t, Float32 | Float64);
    match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (Null, other) | (other, Null) => Some(other.clone()),
        (a, b) if integer(a) && integer(b) => Some(Int64),
        (a, b) if (integer(a) || float(a)) && (integer(b) || float(b)) => Some(Float64),
        (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, Some(_))) => Some(instant_type(ArrowUnit::Nanosecond)),
        (Utf8, Int64 | Float64 | Boolean)
        | (Int64 | Float64 | Boolean, Utf8)
        | (Boolean, Int64 | Float64)
        | (Int64 | Float64, Boolean) => Some(Utf8),
        _ => None,
    }
}

/// The columns of one source after renaming; its time columns have the type they will be written with.
async fn source_schema(ingest: &Ingest, source: &Source) -> Result<Schema> {
    let schema = match source.format {
        SourceFormat::Parquet => {
            let footer = read_footer(&source.place, &source.object).await?;
            for field in footer.schema().fields() {
                if ingest.declared.time_columns().any(|column| column.name == ingest.renamed(field.name())) {
                    refuse_int96(&source.shown(), &footer, field.name())?;
                }
            }
            footer.schema().as_ref().clone()
        }
        SourceFormat::Csv => {
            let (ingest, source) = (ingest.clone(), source.clone());
            let reader = csv_reader(&source).await?;
            let task = tokio::task::spawn_blocking(move || csv_schema(&ingest, &source, reader));
            task.await.map_err(|e| Error::Io { path: "the schema inference".into(), source: e.into() })??
        }
    };
    let mut fields = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = ingest.renamed(field.name());
        if fields.iter().any(|known: &Field| known.name() == name) {
            return Err(Error::Definition {
                subject: format!("the load of `{}`", source.shown()),
                reason: format!("two of its columns would be called `{name}`; rename one of them with `Ingest::rename`"),
            });
        }
        let declared = ingest.types.iter().find(|(column, _)| column == name).map(|(_, t)| t.clone());
        let data_type = declared.unwrap_or_else(|| field.data_type().clone());
        let time = ingest.declared.time_columns().find(|column| column.name == name);
        let data_type = match (time, field.data_type()) {
            (None, _) => data_type,
            (Some(_), DataType::Timestamp(ArrowUnit::Nanosecond, _)) => instant_type(ArrowUnit::Nanosecond),
            (Some(column), _) if column.unit == Some(TimeUnit::Nanosecond) => instant_type(ArrowUnit::Nanosecond),
            (Some(_), _) => instant_type(ArrowUnit::Microsecond),
        };
        fields.push(Field::new(name, data_type, true));
    }
    Ok(Schema::new(fields))
}

fn csv_schema(ingest: &Ingest, source: &Source, reader: Box<dyn Read + Send>) -> Result<Schema> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
    let names = header(source, &mut reader)?;
    let mut types = vec![DataType::Null; names.len()];
    let mut record = csv::ByteRecord::new();
    for _ in 0..INFERRED_ROWS {
        let more = reader.read_byte_record(&mut record);
        let more = more.map_err(|e| Error::UnreadableFile { path: source.shown(), reason: e.to_string() })?;
        if !more {
            break;
        }
        for (known, value) in types.iter_mut().zip(record.iter()) {
            if !value.is_empty() && *known != DataType::Utf8 {
                *known = wider(known, &type_of(value)).unwrap_or(DataType::Utf8);
            }
        }
    }
    let is_time = |name: &str| ingest.declared.time_columns().any(|column| column.name == ingest.renamed(name));
    let fields = names.iter().zip(types).map(|(name, data_type)| {
        let data_type = if is_time(name) { DataType::Utf8 } else { data_type };
        Field::new(name, data_type, true)
    });
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

/// The type of one value.
fn type_of(value: &[u8]) -> DataType {
    let Ok(text) = std::str::from_utf8(value) else { return DataType::Utf8 };
    let digits = text.trim_start_matches(['-', '+']);
    if is_code(text) {
        DataType::Utf8
    } else if text.parse::<i64>().is_ok() {
        DataType::Int64
    } else if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && text.parse::<f64>().is_ok() {
        DataType::Float64
    } else if matches!(text, "true" | "false" | "True" | "False" | "TRUE" | "FALSE") {
        DataType::Boolean
    } else {
        DataType::Utf8
    }
}
