//! A published materialization: its manifest, and its rows in the forms that training needs.
//! The same handle always gives the same bits.

use std::{fmt, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::prelude::{DataFrame, ident};
use futures::{StreamExt, stream::BoxStream};

use super::{definition::Definition, pipeline::Pipeline};
use crate::{
    catalog::Column,
    engine::Parallelism,
    error::Result,
    feature_set::{FeatureSet, RowSet, SetBody},
    manifest::Manifest,
    name::ContentId,
    storage::Location,
    time::AsOf,
    workspace::{PublishedParts, Workspace},
};

/// The rows of a feature set at an as-of, published and immutable.
///
/// Its rows are read without the definition of the set: by [`Materialization::batches`], [`Materialization::dataframe`] and
/// [`Materialization::dataset`]. To serve it takes the definition that made it, with the code of its encoders; see
/// [`FeatureStore::open_materialization`](crate::FeatureStore::open_materialization).
#[derive(Clone)]
pub struct Materialization {
    workspace: Arc<Workspace>,
    definition: Definition,
    manifest: Arc<Manifest>,
    parts: PublishedParts,
}

impl Materialization {
    /// The same materialization with another definition.
    pub(crate) fn with(&self, definition: Definition) -> Self {
        Self { definition, ..self.clone() }
    }

    pub(crate) fn new(
        workspace: Arc<Workspace>,
        definition: Definition,
        location: Location,
        manifest: impl Into<Arc<Manifest>>,
    ) -> Self {
        Self { workspace, definition, manifest: manifest.into(), parts: PublishedParts::new(location, REMEDY) }
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

    /// The size of its published files in bytes, as they are compressed.
    pub fn bytes(&self) -> u64 {
        self.manifest.files().map(|part| part.size).sum()
    }

    /// Inputs, learned states, counts and files.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The columns: the event time or the key, the features, the labels. The columns that only serving uses (see
    /// [`Manifest::columns`]) are left out.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) when the manifest has a type that this library does not know.
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
    /// [`Error::Corrupt`](crate::Error::Corrupt), also from the stream, when a file is not what was published.
    pub async fn batches(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let shown = self.shown();
        let rows = self.parts.batches(&self.manifest.parts).await?;
        Ok(rows.map(move |batch| Ok(batch?.project(&shown)?)).boxed())
    }

    /// Reads every file again and compares its hash with the published one.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) names the first file that differs.
    pub async fn verify(&self) -> Result<()> {
        self.parts.verify(self.manifest.files()).await
    }

    /// The rows as a DataFusion `DataFrame`, in their order. The hashes of the files are verified now, and not when the frame is
    /// read.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) when a file is not what was published.
    pub async fn dataframe(&self) -> Result<DataFrame> {
        let session = self.workspace.engine.session(Parallelism::One, [self.parts.location()])?;
        let all = Column::schema(&self.manifest.columns)?;
        let rows = session.read_table(Arc::new(self.parts.table(&self.manifest.parts, all).await?))?;
        let shown = self.schema()?;
        Ok(rows.select(shown.fields().iter().map(|field| ident(field.name())).collect::<Vec<_>>())?)
    }

    /// The definition that made it.
    ///
    /// # Errors
    /// [`Error::UnknownFeatureSet`](crate::Error::UnknownFeatureSet) and [`Error::MadeOtherwise`](crate::Error::MadeOtherwise) when the
    /// store that opened it does not know the definition.
    pub(crate) fn set(&self) -> Result<&FeatureSet> {
        self.definition.set(&self.manifest)
    }

    /// The same materialization with this definition, whose fingerprint is that of the manifest.
    pub(crate) fn defined_by(&self, set: &FeatureSet) -> Self {
        Self { definition: Definition::of(set), ..self.clone() }
    }

    /// The files with its rows.
    pub(super) fn published_parts(&self) -> &PublishedParts {
        &self.parts
    }

    pub(crate) fn workspace(&self) -> &Arc<Workspace> {
        &self.workspace
    }

    /// The steps with the states that were learned, for a set of rows.
    pub(crate) fn pipeline(&self) -> Result<Option<(&RowSet, Pipeline)>> {
        let definition = self.set()?;
        let SetBody::Rows(set) = &definition.body else { return Ok(None) };
        let pipeline = Pipeline::load(&definition.name, set, &self.manifest.selections, &self.manifest.encoders)?;
        Ok(Some((set, pipeline)))
    }

    /// The rows of a group of a set of entities, in the order of their keys: group 0 has all keys, the other groups are the partial rows.
    pub(crate) async fn group_batches(&self, group: usize) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        match group.checked_sub(1).and_then(|partial| self.manifest.partial.get(partial)) {
            None => self.parts.batches(&self.manifest.parts).await,
            Some(rows) => self.parts.batches(&rows.parts).await,
        }
    }
}

const REMEDY: &str = "restore it from a copy, or delete the folder it lies in and materialize again";

impl fmt::Debug for Materialization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Materialization({} as of {}, {} rows, id={})", self.manifest.set, self.as_of(), self.rows(), self.id())
    }
}
