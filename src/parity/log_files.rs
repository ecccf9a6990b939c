//! The files of a log: which there are, whether they are complete, and their rows.

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::ObjectMeta;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, arrow_reader::ArrowReaderMetadata};

use super::log_columns::{EXTENSION, FORMAT, LogEntries, OPEN, hash_in_name};
use crate::{
    error::{Error, Result},
    storage::{Location, Locations, ObjectReader, contained, contained_rows, read_footer},
};

/// A complete file of a log.
pub(super) struct LogFile {
    place: Location,
    object: ObjectMeta,
    footer: ArrowReaderMetadata,
    pub(super) entries: LogEntries,
    /// As messages name it.
    pub(super) path: String,
}

/// The files of a log.
pub(super) struct LogFiles {
    pub(super) complete: Vec<LogFile>,
    /// Files that were not completed.
    pub(super) open: Vec<String>,
}

/// The files of a folder, in the order of their names, or one file.
///
/// # Errors
/// [`Error::InvalidLocation`], [`Error::NoFiles`] when there is no file of a log; [`Error::UnreadableFile`] for one that is cut off or
/// is no log, [`Error::Format`] for a log of another format.
pub(super) async fn files(locations: &Locations, location: &str) -> Result<LogFiles> {
    let place = locations.open(location)?;
    let (place, objects) = match place.split_file().filter(|(_, name)| name.ends_with(EXTENSION)) {
        Some((folder, name)) => {
            let object = folder.head(&name).await?;
            (folder, object.into_iter().collect())
        }
        None => {
            let objects = place.list().await?;
            (place, objects)
        }
    };
    let (mut complete, mut open) = (Vec::new(), Vec::new());
    for object in objects {
        let path = place.child(&place.name_of(&object.location)).to_string();
        if path.ends_with(&format!("{EXTENSION}{OPEN}")) {
            open.push(path);
        } else if path.ends_with(EXTENSION) {
            complete.push(opened(&place, object, path).await?);
        }
    }
    if complete.is_empty() && open.is_empty() {
        return Err(Error::NoFiles { what: "files of a log of served rows", location: place.to_string() });
    }
    Ok(LogFiles { complete, open })
}

async fn opened(place: &Location, object: ObjectMeta, path: String) -> Result<LogFile> {
    let footer = read_footer(place, &object).await?;
    let entries = footer.metadata().file_metadata().key_value_metadata().and_then(|entries| LogEntries::read(entries));
    let Some(entries) = entries else {
        let reason = "it is no log of served rows: name files that `ServedLog` has written, or a folder of them".into();
        return Err(Error::UnreadableFile { path, reason });
    };
    if entries.format != FORMAT.to_string() {
        return Err(Error::Format { path, found: entries.format, expected: FORMAT });
    }
    // A file that was given another name is taken as it is.
    let name = path.rsplit('/').next().unwrap_or_default();
    if let Some(digits) = hash_in_name(name)
        && place.hash(&object).await?.short() != digits
    {
        let reason = "its content is not what was written: it is damaged or was changed; remove it".into();
        return Err(Error::UnreadableFile { path, reason });
    }
    Ok(LogFile { place: place.clone(), object, footer, entries, path })
}

impl LogFile {
    /// The rows in their order.
    ///
    /// # Errors
    /// [`Error::UnreadableFile`], also from the stream, for a file that is damaged.
    pub(super) fn rows(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let (path, reader) = (self.path.clone(), ObjectReader::new(&self.place, self.object.clone()));
        let footer = self.footer.clone();
        let damaged = {
            let path = self.path.clone();
            move |error: Error| match error {
                own @ (Error::Storage(_) | Error::UnreadableFile { .. }) => own,
                other => Error::UnreadableFile { path: path.clone(), reason: format!("{other}; it is damaged: remove it") },
            }
        };
        let rows = contained(&path, || Ok(ParquetRecordBatchStreamBuilder::new_with_metadata(reader, footer).build()?));
        let rows = contained_rows(path, rows.map_err(&damaged)?);
        Ok(rows.map_err(move |e| damaged(Error::from(e))).boxed())
    }
}
