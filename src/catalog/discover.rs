//! What Parquet footers tell about a file: schema, rows, and the bounds of its times.
//! It reads footers only, never rows, and believes no folder's name about times.

use arrow::{
    array::Array as _,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use parquet::{
    arrow::arrow_reader::{ArrowReaderMetadata, statistics::StatisticsConverter},
    file::metadata::ParquetMetaData,
};

use super::{
    Bounds, Column, FactTable, FileEntry, TableLocation, TableVersion, TimeColumn,
    hive::{is_hidden, partition_values},
    version::FORMAT,
};
use crate::{
    error::{Error, Result},
    name::TableName,
    storage::{FileIdentity, Location, read_footer},
};

const FOOTERS_AT_ONCE: usize = 16;

/// What a footer tells about a file.
pub(crate) struct FileFacts {
    pub(crate) schema: SchemaRef,
    pub(crate) rows: u64,
    pub(crate) event: Option<Bounds>,
    pub(crate) known: Option<Bounds>,
}

/// The table that an existing layout of Parquet files makes up, as its first version.
///
pub(crate) async fn discover(table: TableName, place: &Location, declared: FactTable) -> Result<TableVersion> {
    let objects = place.list().await?;
    let is_fact = |object: &&ObjectMeta| {
        let name = place.name_of(&object.location);
        name.ends_with(".parquet") && !is_hidden(&name)
    };
    let objects: Vec<_> = objects.iter().filter(is_fact).collect();
    if objects.is_empty() {
        return Err(Error::NoFiles { what: "Parquet files", location: place.to_string() });
    }
    let read = |object: ObjectMeta| {
        let declared = &declared;
        async move {
            let shown = place.child(&place.name_of(&object.location)).to_string();
            let footer = read_footer(place, &object).await?;
            let identity = place.identify(&object).await?;
            Ok::<_, Error>((file_facts(&shown, &footer, declared)?, identity, place.name_of(&object.location)))
        }
    };
    let read = futures::stream::iter(objects.into_iter().cloned().map(read));
    let found: Vec<(FileFacts, FileIdentity, String)> = read.buffered(FOOTERS_AT_ONCE).try_collect().await?;

    let partition_names: Vec<String> =
        found.first().map_or(Vec::new(), |(_, _, path)| partition_values(path).into_iter().map(|(c, _)| c).collect());
    let mut schema = Schema::empty();
    let mut files = Vec::with_capacity(found.len());
    for (facts, identity, path) in found {
        let values = partition_values(&path);
        if values.iter().map(|(column, _)| column).ne(&partition_names) {
            return Err(Error::Definition {
                subject: format!("table `{table}`"),
                reason: format!("file `{path}` is not partitioned by ({}) as the first file is", partition_names.join(", ")),
            });
        }
        schema = unify(&format!("file `{path}`"), &schema, &facts.schema)?;
        let partition = values.into_iter().map(|(_, value)| value).collect();
        let (loads, full_at) = (Vec::new(), None);
        files.push(FileEntry {
            path,
            identity,
            rows: facts.rows,
            partition,
            event: facts.event,
            known: facts.known,
            loads,
            full_at,
        });
    }
    declared.check(&format!("table `{table}`"), &schema)?;
    if let Some(column) = partition_names.iter().find(|column| schema.column_with_name(column).is_some()) {
        return Err(Error::Definition {
            subject: format!("table `{table}`"),
            reason: format!(
                "`{column}` is a partition column and a column of the files too; a column must come from one of them"
            ),
        });
    }
    let partition_columns = partition_names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let all_integers = files.iter().all(|f| f.partition[i].as_ref().is_none_or(|v| v.parse::<i32>().is_ok()));
            let data_type = if all_integers { DataType::Int32 } else { DataType::Utf8 };
            Column::from_field(&Field::new(name, data_type, true))
        })
        .collect();
    Ok(TableVersion {
        format: FORMAT,
        table,
        version: 1,
        location: TableLocation::External(place.to_string()),
        declared,
        columns: schema.fields().iter().map(|field| Column::from_field(field)).collect(),
        partition_columns,
        files,
        loads: Vec::new(),
        expectations: Vec::new(),
    })
}

/// The columns of both schemas, those of `a` first; a column that one of them lacks is nullable.
pub(crate) fn unify(place: &str, a: &Schema, b: &Schema) -> Result<Schema> {
    let mut fields: Vec<Field> = Vec::new();
    for field in a.fields() {
        let nullable = field.is_nullable() || b.column_with_name(field.name()).is_none_or(|(_, other)| other.is_nullable());
        fields.push(field.as_ref().clone().with_nullable(nullable));
    }
    for field in b.fields() {
        match a.column_with_name(field.name()) {
            None => {
                let nullable = field.is_nullable() || !a.fields().is_empty();
                fields.push(Field::new(field.name(), field.data_type().clone(), nullable));
            }
            Some((_, known)) if known.data_type() == field.data_type() => {}
            Some((_, known)) => {
                return Err(Error::ColumnType {
                    place: place.into(),
                    column: field.name().clone(),
                    found: field.data_type().to_string(),
                    needed: format!("files before it hold {}; files of one table must agree", known.data_type()),
                });
            }
        }
    }
    Ok(Schema::new(fields))
}

/// Schema, rows and time bounds from a footer.
pub(crate) fn file_facts(shown: &str, footer: &ArrowReaderMetadata, declared: &FactTable) -> Result<FileFacts> {
    let bounds = |column: &TimeColumn| -> Result<Option<Bounds>> {
        refuse_int96(shown, footer, &column.name)?;
        declared.scale(&format!("file `{shown}`"), column, footer.schema())?;
        Ok(time_bounds(footer.metadata(), footer.schema(), &column.name))
    };
    let mut columns = declared.time_columns();
    let event = columns.next().map(bounds).transpose()?.flatten();
    let known = columns.next().map(bounds).transpose()?.flatten();
    let rows = footer.metadata().file_metadata().num_rows();
    Ok(FileFacts { schema: footer.schema().clone(), rows: u64::try_from(rows).unwrap_or(0), event, known })
}

/// Refuses times stored as INT96: as nanoseconds, which is how they are read, years beyond 2262 wrap into the past, and a
/// fact would become visible early.
pub(crate) fn refuse_int96(shown: &str, footer: &ArrowReaderMetadata, column: &str) -> Result<()> {
    let parquet = footer.metadata().file_metadata().schema_descr();
    let stored = parquet.columns().iter().find(|c| c.path().parts() == [column]);
    if stored.is_none_or(|c| c.physical_type() != parquet::basic::Type::INT96) {
        return Ok(());
    }
    Err(Error::ColumnType {
        place: format!("file `{shown}`"),
        column: column.into(),
        found: "INT96".into(),
        needed: "years beyond 2262 would wrap into the past; write the times as TIMESTAMP_MICROS".into(),
    })
}

/// The bounds of a time column over all row groups; `None` when one of them does not tell.
fn time_bounds(footer: &ParquetMetaData, schema: &Schema, column: &str) -> Option<Bounds> {
    use arrow::{array::AsArray, compute, datatypes::Int64Type};
    let converter = StatisticsConverter::try_new(column, schema, footer.file_metadata().schema_descr()).ok()?;
    let as_integers = |array: arrow::array::ArrayRef| {
        let array = match array.data_type() {
            DataType::Date32 => compute::cast(&compute::cast(&array, &DataType::Int32).ok()?, &DataType::Int64),
            _ => compute::cast(&array, &DataType::Int64),
        };
        array.ok().map(|a| a.as_primitive::<Int64Type>().clone())
    };
    let groups = footer.row_groups();
    let mins = as_integers(converter.row_group_mins(groups).ok()?)?;
    let maxes = as_integers(converter.row_group_maxes(groups).ok()?)?;
    let nulls = converter.row_group_null_counts(groups).ok()?;
    let mut bounds: Option<Bounds> = None;
    let mut null_count = 0;
    for (group, meta) in groups.iter().enumerate() {
        let nulls_here = nulls.is_valid(group).then(|| nulls.value(group))?;
        null_count += nulls_here;
        if nulls_here == u64::try_from(meta.num_rows()).ok()? {
            continue;
        }
        let (min, max) = (mins.is_valid(group).then(|| mins.value(group))?, maxes.is_valid(group).then(|| maxes.value(group))?);
        bounds =
            Some(bounds.map_or(Bounds { min, max, nulls: 0 }, |b| Bounds { min: b.min.min(min), max: b.max.max(max), nulls: 0 }));
    }
    // A file without any time is a file without bounds that are worth anything: empty, and never visible.
    Some(Bounds { nulls: null_count, ..bounds.unwrap_or(Bounds { min: i64::MAX, max: i64::MIN, nulls: 0 }) })
}
