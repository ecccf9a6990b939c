//! Reads the part files of something published: in their order, and only as long as they are what was published.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::ObjectMeta;
use parquet::arrow::ParquetRecordBatchStreamBuilder;

use super::Part;
use crate::{
    error::{Error, Result},
    storage::{FileIdentity, Location, ObjectReader, ParquetTable, contained, contained_rows, read_footer},
};

/// A folder of published part files. The manifest beside them says which there are.
#[derive(Debug, Clone)]
pub(crate) struct PublishedParts {
    location: Location,
    /// What to do about a damaged file.
    remedy: &'static str,
    /// Files, with their entity tags, whose hashes have been verified.
    verified: Arc<Mutex<BTreeSet<(String, String)>>>,
}

impl PublishedParts {
    /// The parts in this folder. `remedy` ends the messages about damaged ones.
    pub(crate) fn new(location: Location, remedy: &'static str) -> Self {
        Self { location, remedy, verified: Arc::default() }
    }

    /// The folder.
    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    /// The rows of these files, with all of their columns.
    ///
    /// Before the first row of a file is read, the hash of the whole file is verified. A verified file is not hashed again while
    /// its entity tag, or on a local disk its size and times, are the same.
    ///
    /// # Errors
    /// [`Error::Corrupt`], also from the stream, when a file is not what was published.
    pub(crate) async fn batches(&self, files: &[Part]) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        for part in files {
            self.present(part).await?;
        }
        let opened = stream::iter(files.to_vec()).then({
            let parts = self.clone();
            move |part| {
                let parts = parts.clone();
                async move { parts.rows_of(&part).await }
            }
        });
        Ok(opened.try_flatten().boxed())
    }

    /// The rows of these files as a table, whose hashes are verified now.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a file is not what was published.
    pub(crate) async fn table(&self, files: &[Part], schema: SchemaRef) -> Result<ParquetTable> {
        let mut objects = Vec::with_capacity(files.len());
        for part in files {
            objects.push(self.unchanged(part).await?);
        }
        Ok(ParquetTable::new(self.location.clone(), objects, schema))
    }

    /// Reads every file again and compares its hash with the published one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] names the first file that differs.
    pub(crate) async fn verify(&self, files: impl Iterator<Item = &Part>) -> Result<()> {
        for part in files {
            let object = self.location.head(&part.name).await?.ok_or_else(|| self.vanished(&part.name))?;
            if self.location.hash(&object).await? != part.hash {
                return Err(self.damaged(&part.name, DIFFERS));
            }
        }
        Ok(())
    }

    async fn rows_of(&self, part: &Part) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let object = self.unchanged(part).await?;
        let path = self.location.child(&part.name).to_string();
        let damaged = {
            let (parts, name) = (self.clone(), part.name.clone());
            move |e: Error| parts.damaged(&name, &e.to_string())
        };
        let footer = read_footer(&self.location, &object).await.map_err(&damaged)?;
        let reader = ObjectReader::new(&self.location, object);
        let rows = contained(&path, || Ok(ParquetRecordBatchStreamBuilder::new_with_metadata(reader, footer).build()?));
        let rows = contained_rows(path, rows.map_err(&damaged)?);
        Ok(rows.map_err(move |e| damaged(Error::from(e))).boxed())
    }

    /// The file of a part, if it exists and has the published size.
    async fn present(&self, part: &Part) -> Result<ObjectMeta> {
        let object = self.location.head(&part.name).await?.ok_or_else(|| self.vanished(&part.name))?;
        match object.size == part.size {
            true => Ok(object),
            false => {
                let sizes = format!("it has {} bytes, and {} were published", object.size, part.size);
                Err(self.damaged(&part.name, &sizes))
            }
        }
    }

    /// The file of a part, if its content is what was published.
    async fn unchanged(&self, part: &Part) -> Result<ObjectMeta> {
        let object = self.present(part).await?;
        // In an object store an entity tag stands for one content; on a local disk it does not.
        let tag = object.e_tag.as_ref().filter(|_| !self.location.is_local()).map(|tag| (part.name.clone(), tag.clone()));
        let known = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if tag.as_ref().is_some_and(|tag| known().contains(tag)) {
            return Ok(object);
        }
        let was = FileIdentity { size: part.size, e_tag: None, hash: Some(part.hash) };
        if !self.location.is_unchanged(&object, &was).await? {
            return Err(self.damaged(&part.name, DIFFERS));
        }
        known().extend(tag);
        Ok(object)
    }

    fn vanished(&self, name: &str) -> Error {
        let reason = format!("it has vanished; if the root is where it was, {}", self.remedy);
        Error::Corrupt { path: format!("{}/{name}", self.location), reason }
    }

    fn damaged(&self, name: &str, what: &str) -> Error {
        Error::Corrupt { path: format!("{}/{name}", self.location), reason: format!("{what}; {}", self.remedy) }
    }
}

const DIFFERS: &str = "its content is not what was published";
