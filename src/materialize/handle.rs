//! A published materialization: its manifest, and its rows in every form training needs.
//! Reading changes nothing; the same handle gives the same bits for ever.

use std::{fmt, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::prelude::DataFrame;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use parquet::arrow::ParquetRecordBatchStreamBuilder;

use super::{Manifest, Part, keyed::RowCodec, pipeline::Pipeline, run::Materializer};
use crate::{
    catalog::Column,
    engine::Parallelism,
    error::{Error, Result},
    feature_set::{Body, FeatureSet, RowSet},
    name::ContentId,
    storage::{Location, ObjectReader, ParquetTable, contained, contained_rows, read_footer},
    time::AsOf,
};

/// The rows of a feature set at an as-of, published and immutable.
#[derive(Clone)]
pub struct Materialization {
    owner: Arc<Materializer>,
    set: FeatureSet,
    place: Location,
    manifest: Arc<Manifest>,
}

impl Materialization {
    pub(crate) fn new(owner: Arc<Materializer>, set: FeatureSet, place: Location, manifest: Manifest) -> Self {
        Self { owner, set, place, manifest: Arc::new(manifest) }
    }

    /// The hash of all that determines the rows.
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

    /// The columns: the event time or the key, the features, the labels.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the manifest holds a type that this library does not know.
    pub fn schema(&self) -> Result<SchemaRef> {
        Column::schema(&self.manifest.columns)
    }

    /// The rows in their order, batch by batch.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a file is not what was published.
    pub async fn batches(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        self.batches_of(&self.manifest.parts).await
    }

    /// As [`Materialization::batches`], of these files.
    async fn batches_of(&self, files: &[Part]) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let mut parts = Vec::with_capacity(files.len());
        for part in files {
            let path = format!("{}/{}", self.place, part.name);
            let damaged = |reason: String| Error::Corrupt { path: path.clone(), reason: format!("{reason}; {REMEDY}") };
            let object = self.place.head(&part.name).await?.ok_or_else(|| damaged("it has vanished".into()))?;
            if object.size != part.size {
                return Err(damaged(format!("it holds {} bytes and {} were published", object.size, part.size)));
            }
            let footer = read_footer(&self.place, &object).await.map_err(|e| damaged(e.to_string()))?;
            let reader = ObjectReader::new(&self.place, object);
            let rows = contained(&path, || Ok(ParquetRecordBatchStreamBuilder::new_with_metadata(reader, footer).build()?))
                .map_err(|e: Error| damaged(e.to_string()))?;
            let rows = contained_rows(path.clone(), rows);
            parts.push(rows.map_err(move |e| Error::Corrupt { path: path.clone(), reason: format!("{e}; {REMEDY}") }));
        }
        Ok(futures::stream::iter(parts).flatten().boxed())
    }

    /// Reads every file again and compares its hash with the published one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] names the first file that differs.
    pub async fn verify(&self) -> Result<()> {
        for part in self.manifest.files() {
            let path = format!("{}/{}", self.place, part.name);
            let damaged = |reason: &str| Error::Corrupt { path: path.clone(), reason: format!("{reason}; {REMEDY}") };
            let object = self.place.head(&part.name).await?.ok_or_else(|| damaged("it has vanished"))?;
            if self.place.hash(&object).await? != part.hash {
                return Err(damaged("its content is not what was published"));
            }
        }
        Ok(())
    }

    /// The rows as a DataFusion `DataFrame`, in their order.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a file is not what was published.
    pub async fn dataframe(&self) -> Result<DataFrame> {
        drop(self.batches().await?);
        let session = self.owner.engine.session(Parallelism::One, [&self.place])?;
        let schema = self.schema()?;
        let mut files = Vec::with_capacity(self.manifest.parts.len());
        for part in &self.manifest.parts {
            files.extend(self.place.head(&part.name).await?);
        }
        Ok(session.read_table(Arc::new(ParquetTable::new(self.place.clone(), files, schema)))?)
    }

    pub(crate) fn set(&self) -> &FeatureSet {
        &self.set
    }

    pub(crate) fn owner(&self) -> &Arc<Materializer> {
        &self.owner
    }

    /// The steps with the states that were learned, for a set of rows.
    pub(crate) fn pipeline(&self) -> Result<Option<(&RowSet, Pipeline)>> {
        let Body::Rows(set) = &self.set.body else { return Ok(None) };
        let pipeline = Pipeline::load(&self.set.name, set, &self.manifest.selections, &self.manifest.encoders)?;
        Ok(Some((set, pipeline)))
    }

    /// The codec of rows by key, for a set of entities: of all of its keys (group 0), or of those of its partial rows.
    pub(crate) fn codec(&self, group: usize) -> Result<RowCodec> {
        match group.checked_sub(1).and_then(|partial| self.manifest.partial.get(partial)) {
            None => RowCodec::new(&self.manifest.keys, self.schema()?),
            Some(rows) => RowCodec::new(&rows.keys, Column::schema(&rows.columns)?),
        }
    }

    /// The rows of a group, in the order of their keys; as [`Materialization::codec`].
    pub(crate) async fn group_batches(&self, group: usize) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        match group.checked_sub(1).and_then(|partial| self.manifest.partial.get(partial)) {
            None => self.batches().await,
            Some(rows) => self.batches_of(&rows.parts).await,
        }
    }
}

const REMEDY: &str = "delete the folder it lies in and materialize again";

impl fmt::Debug for Materialization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Materialization({} as of {}, {} rows, id={})", self.set.name, self.as_of(), self.rows(), self.id())
    }
}
