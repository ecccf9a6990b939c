//! Files for other programs: the rows of a training set as one Parquet or CSV file, at a path or URL.
//! A file is written to this machine's disk and appears whole.

use arrow::{
    array::RecordBatch,
    csv::WriterBuilder,
    datatypes::{Schema, SchemaRef},
};
use futures::{Stream, TryStreamExt};

use crate::{
    error::{Error, Result},
    storage::{Location, Locations, ParquetFile, scratch_file},
    workspace::part_properties,
};

/// The folder and the name of the file that a text names.
///
/// # Errors
/// [`Error::InvalidLocation`] for what cannot be opened, and for a folder.
pub(super) fn destination(locations: &Locations, text: &str) -> Result<(Location, String)> {
    let place = locations.open(text)?;
    let is_folder = text.ends_with('/') || place.local_dir().is_some_and(|path| path.is_dir());
    place.split_file().filter(|_| !is_folder).ok_or_else(|| Error::InvalidLocation {
        location: place.to_string(),
        reason: "it is a folder; name the file to be written".into(),
    })
}

pub(super) async fn write_parquet(
    schema: SchemaRef,
    rows: impl Stream<Item = Result<RecordBatch>>,
    folder: &Location,
    name: &str,
) -> Result<()> {
    let mut rows = std::pin::pin!(rows);
    let first = rows.try_next().await?.unwrap_or_else(|| RecordBatch::new_empty(schema.clone()));
    let mut file = ParquetFile::create(schema, part_properties(&first))?;
    file.write(&first)?;
    while let Some(batch) = rows.try_next().await? {
        file.write(&batch)?;
    }
    file.finish()?.publish(folder, name).await.map(drop)
}

pub(super) async fn write_csv(
    subject: &str,
    schema: &Schema,
    rows: impl Stream<Item = Result<RecordBatch>>,
    folder: &Location,
    name: &str,
) -> Result<()> {
    if let Some(nested) = schema.fields().iter().find(|field| field.data_type().is_nested()) {
        return Err(Error::ColumnType {
            subject: subject.into(),
            column: nested.name().clone(),
            found: nested.data_type().to_string(),
            needed: "a cell of a CSV file is one value; write Parquet, or select other columns of `dataframe()`".into(),
        });
    }
    let file = scratch_file("asof-csv-").map_err(Error::temporary_file)?;
    let sink = std::io::BufWriter::with_capacity(1 << 20, file.reopen().map_err(Error::temporary_file)?);
    let mut writer = WriterBuilder::new().with_header(true).build(sink);
    let mut rows = std::pin::pin!(rows);
    writer.write(&RecordBatch::new_empty(schema.clone().into()))?;
    while let Some(batch) = rows.try_next().await? {
        writer.write(&batch)?;
    }
    let sink = writer.into_inner();
    sink.into_inner().map_err(|e| Error::temporary_file(e.into_error()))?;
    folder.upload(name, file.reopen().map_err(Error::temporary_file)?).await
}
