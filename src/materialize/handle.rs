//! A published materialization: its manifest, and its rows in the forms that training needs.
//! The same handle always gives the same bits.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::prelude::{DataFrame, ident};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::ObjectMeta;
use parquet::arrow::ParquetRecordBatchStreamBuilder;

use super::{keyed::RowCodec, pipeline::Pipeline};
use crate::{
    catalog::Column,
    engine::Parallelism,
    error::{Error, Result},
    feature_set::{FeatureSet, RowSet, SetBody},
    manifest::Manifest,
    name::ContentId,
    storage::{FileIdentity, Location, ObjectReader, ParquetTable, contained, contained_rows, read_footer},
    time::AsOf,
    workspace::{Part, Workspace},
};

/// The rows of a feature set at an as-of, published and immutable.
#[derive(Clone)]
pub struct Materialization {
    workspace: Arc<Workspace>,
    set: FeatureSet,
    location: Location,
    manifest: Arc<Manifest>,
    /// Files, with their entity tags, whose hashes have been verified.
    verified: Arc<Mutex<BTreeSet<(String, String)>>>,
}

impl Materialization {
    pub(crate) fn new(workspace: Arc<Workspace>, set: FeatureSet, location: Location, manifest: Manifest) -> Self {
        Self { workspace, set, location, manifest: Arc::new(manifest), verified: Arc::default() }
    }

    /// The hash of everything that determines the rows.
    pub fn id(&self) -> ContentId {
        self.manifest.id
    }

    /// The instant at which the facts were cut.
    pub fn as_of(&self) -> AsOf {
        self.manifest.as_of
    }

    /// How many rows it holds.
    pub fn rows(&self) -> u64 {
        self.manifest.rows
    }

    /// Inputs, learned states, counts and files.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The columns: the event time or the key, the features, the labels. The columns that only serving uses (see
    /// [`Manifest::columns`]) are left out.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the manifest has a type that this library does not know.
    pub fn schema(&self) -> Result<SchemaRef> {
        Ok(Arc::new(Column::schema(&self.manifest.columns)?.project(&self.shown())?))
    }

    /// The positions of the columns that are shown.
    fn shown(&self) -> Vec<usize> {
        let Manifest { keys, features, columns, .. } = self.manifest.as_ref();
        let is_shown = |name: &String| keys.is_empty() || keys.contains(name) || features.contains(name);
        columns.iter().enumerate().filter(|(_, column)| is_shown(&column.name)).map(|(i, _)| i).collect()
    }

    /// The rows in their order, batch by batch.
    ///
    /// Before the first row of a file is read, the hash of the whole file is verified. A changed file ends the stream with an error
    /// and yields no row. A verified file is not hashed again while its entity tag, or on a local disk its size and times, are the
    /// same.
    ///
    /// # Errors
    /// [`Error::Corrupt`], also from the stream, when a file is not what was published.
    pub async fn batches(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let shown = self.shown();
        let rows = self.batches_of(&self.manifest.parts).await?;
        Ok(rows.map(move |batch| Ok(batch?.project(&shown)?)).boxed())
    }

    /// The rows of these files, with all of their columns.
    async fn batches_of(&self, files: &[Part]) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        for part in files {
            self.present(part).await?;
        }
        let opened = stream::iter(files.to_vec()).then({
            let made = self.clone();
            move |part| {
                let made = made.clone();
                async move { made.rows_of(&part).await }
            }
        });
        Ok(opened.try_flatten().boxed())
    }

    async fn rows_of(&self, part: &Part) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let object = self.unchanged(part).await?;
        let path = self.location.child(&part.name).to_string();
        let damaged = {
            let (made, name) = (self.clone(), part.name.clone());
            move |e: Error| made.damaged(&name, &e.to_string())
        };
        let footer = read_footer(&self.location, &object).await.map_err(&damaged)?;
        let reader = ObjectReader::new(&self.location, object);
        let rows = contained(&path, || Ok(ParquetRecordBatchStreamBuilder::new_with_metadata(reader, footer).build()?));
        let rows = contained_rows(path, rows.map_err(&damaged)?);
        Ok(rows.map_err(move |e| damaged(Error::from(e))).boxed())
    }

    /// The file of a part, if it exists and has the published size.
    async fn present(&self, part: &Part) -> Result<ObjectMeta> {
        let object = self.location.head(&part.name).await?.ok_or_else(|| self.damaged(&part.name, "it has vanished"))?;
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

    fn damaged(&self, name: &str, what: &str) -> Error {
        Error::Corrupt { path: format!("{}/{name}", self.location), reason: format!("{what}; {REMEDY}") }
    }

    /// Reads every file again and compares its hash with the published one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] names the first file that differs.
    pub async fn verify(&self) -> Result<()> {
        for part in self.manifest.files() {
            let object = self.location.head(&part.name).await?.ok_or_else(|| self.damaged(&part.name, "it has vanished"))?;
            if self.location.hash(&object).await? != part.hash {
                return Err(self.damaged(&part.name, DIFFERS));
            }
        }
        Ok(())
    }

    /// The rows as a DataFusion `DataFrame`, in their order. The hashes of the files are verified now, and not when the frame is
    /// read.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a file is not what was published.
    pub async fn dataframe(&self) -> Result<DataFrame> {
        let mut files = Vec::with_capacity(self.manifest.parts.len());
        for part in &self.manifest.parts {
            files.push(self.unchanged(part).await?);
        }
        let session = self.workspace.engine.session(Parallelism::One, [&self.location])?;
        let all = Column::schema(&self.manifest.columns)?;
        let rows = session.read_table(Arc::new(ParquetTable::new(self.location.clone(), files, all)))?;
        let shown = self.schema()?;
        Ok(rows.select(shown.fields().iter().map(|field| ident(field.name())).collect::<Vec<_>>())?)
    }

    pub(crate) fn set(&self) -> &FeatureSet {
        &self.set
    }

    pub(crate) fn workspace(&self) -> &Arc<Workspace> {
        &self.workspace
    }

    /// The steps with the states that were learned, for a set of rows.
    pub(crate) fn pipeline(&self) -> Result<Option<(&RowSet, Pipeline)>> {
        let SetBody::Rows(set) = &self.set.body else { return Ok(None) };
        let pipeline = Pipeline::load(&self.set.name, set, &self.manifest.selections, &self.manifest.encoders)?;
        Ok(Some((set, pipeline)))
    }

    /// The codec of rows by key, for a set of entities: group 0 has all keys, the other groups are the partial rows.
    pub(crate) fn codec(&self, group: usize) -> Result<RowCodec> {
        match group.checked_sub(1).and_then(|partial| self.manifest.partial.get(partial)) {
            None => RowCodec::new(&self.manifest.keys, Column::schema(&self.manifest.columns)?),
            Some(rows) => RowCodec::new(&rows.keys, Column::schema(&rows.columns)?),
        }
    }

    /// The rows of a group, in the order of their keys; as [`Materialization::codec`].
    pub(crate) async fn group_batches(&self, group: usize) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        match group.checked_sub(1).and_then(|partial| self.manifest.partial.get(partial)) {
            None => self.batches_of(&self.manifest.parts).await,
            Some(rows) => self.batches_of(&rows.parts).await,
        }
    }
}

const DIFFERS: &str = "its content is not what was published";
const REMEDY: &str = "delete the folder it lies in and materialize again";

impl fmt::Debug for Materialization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Materialization({} as of {}, {} rows, id={})", self.set.name, self.as_of(), self.rows(), self.id())
    }
}
