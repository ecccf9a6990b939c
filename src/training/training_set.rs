//! A training set: rows with features, to be read in any form, split, summed up and kept.
//! A spine's rows stay a query until they are split; a set's rows are queried once and encoded when they are first read.

use std::{fmt, sync::Arc};

use arrow::{
    array::RecordBatch,
    compute::filter_record_batch,
    datatypes::{Schema, SchemaRef},
};
use datafusion::prelude::DataFrame;
use futures::{TryStreamExt, stream::BoxStream};

use super::{Dataset, Split, Summary, export, keep, rows_of_set::RowsOfSet, split::sides, summary::summarize};
use crate::{
    catalog::Column,
    engine::Parallelism,
    error::{Error, Result},
    manifest::{SplitSide, StepState, TrainingManifest, TrainingOrigin},
    materialize::RowBuffer,
    name::ContentId,
    time::Clock,
    workspace::{PublishedParts, Workspace, plain_rows},
};

/// The rows that a model is trained or tested on: features, labels and instants; made by
/// [`FeatureStore::training_set`](crate::FeatureStore::training_set).
///
/// Handles are cheap to clone, and clones share what was computed. Rows that were split or encoded lie in temporary files, which
/// are removed with the last handle; [`TrainingSet::keep`] publishes rows.
#[derive(Clone)]
pub struct TrainingSet {
    pub(super) workspace: Arc<Workspace>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) origin: Arc<TrainingOrigin>,
    pub(super) rows: Rows,
}

#[derive(Clone)]
pub(super) enum Rows {
    /// A spine with its features, not computed.
    Spine(DataFrame),
    /// Rows of a spine with their features.
    Buffered(Arc<RowBuffer>),
    /// Rows of a set of rows.
    OfSet(RowsOfSet),
    /// Published rows.
    Kept { parts: PublishedParts, manifest: Arc<TrainingManifest> },
}

impl TrainingSet {
    /// What the rows are, what they were made of, and how they were split.
    pub fn origin(&self) -> &TrainingOrigin {
        &self.origin
    }

    /// The manifest of a training set that was kept; `None` for one that was not.
    pub fn manifest(&self) -> Option<&TrainingManifest> {
        match &self.rows {
            Rows::Kept { manifest, .. } => Some(manifest),
            _ => None,
        }
    }

    /// The id of a training set that was kept: equal ids mean the same rows, bit for bit.
    pub fn id(&self) -> Option<ContentId> {
        self.manifest().map(|manifest| manifest.id)
    }

    /// The rows as a DataFusion `DataFrame`, in their order.
    ///
    /// Of a set of entities: the spine in its order, with the features behind its columns. Until it is split or kept, it is a
    /// query, which reads the spine and the facts each time it runs. Of a set of rows: the columns and the order of a
    /// materialization (event time, features, labels), the same bits as those of
    /// [`FeatureStore::materialize`](crate::FeatureStore::materialize).
    ///
    /// # Errors
    /// [`Error::Step`] when an encoder or row selection fails, [`Error::Corrupt`] when a file of a kept set is not what was
    /// published.
    pub async fn dataframe(&self) -> Result<DataFrame> {
        let engine = &self.workspace.engine;
        let buffer = match &self.rows {
            Rows::Spine(rows) => return Ok(rows.clone()),
            Rows::Kept { parts, manifest } => {
                let session = engine.session(Parallelism::One, [parts.location()])?;
                let schema = Column::schema(&manifest.columns)?;
                return Ok(session.read_table(Arc::new(parts.table(&manifest.parts, schema).await?))?);
            }
            Rows::Buffered(rows) => rows.clone(),
            Rows::OfSet(rows) => rows.encoded(engine).await?,
        };
        Ok(engine.session(Parallelism::One, [])?.read_table(Arc::new(buffer.table()?))?)
    }

    /// The columns of [`TrainingSet::batches`].
    ///
    /// # Errors
    /// As [`TrainingSet::batches`].
    pub async fn schema(&self) -> Result<SchemaRef> {
        Ok(self.plain().await?.0)
    }

    /// The rows as Arrow batches, in their order. Texts are plain `Utf8`, whatever type the spine has them in.
    ///
    /// # Errors
    /// As [`TrainingSet::dataframe`]; [`Error::Definition`] when two columns of a spine have one name. The stream ends with what
    /// stops the query.
    pub async fn batches(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        Ok(self.plain().await?.1)
    }

    /// The schema and the rows, with plain types.
    pub(super) async fn plain(&self) -> Result<(SchemaRef, BoxStream<'static, Result<RecordBatch>>)> {
        let buffer = match &self.rows {
            Rows::Spine(rows) => {
                let (schema, rows) = plain_rows(rows.clone().execute_stream().await?);
                self.check_names(&schema)?;
                return Ok((schema, rows));
            }
            Rows::Kept { parts, manifest } => {
                return Ok((Column::schema(&manifest.columns)?, parts.batches(&manifest.parts).await?));
            }
            Rows::Buffered(rows) => rows.clone(),
            Rows::OfSet(rows) => rows.encoded(&self.workspace.engine).await?,
        };
        Ok((buffer.schema().clone(), buffer.stream()))
    }

    fn check_names(&self, schema: &Schema) -> Result<()> {
        let mut names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                let reason = format!("two columns of its spine are called `{}`; name them apart", pair[0]);
                Err(Error::Definition { subject: self.subject(), reason })
            }
            None => Ok(()),
        }
    }

    /// The training set, as messages name it.
    pub(super) fn subject(&self) -> String {
        format!("the training set of `{}`", self.origin.set)
    }

    /// The features and the column `label` as matrices. `label` is a label of a set of rows, or any other column; if it is a
    /// feature, it is left out of the features.
    ///
    /// With the flag `linfa`, `linfa::Dataset::from(data)` converts it.
    ///
    /// # Errors
    /// As [`TrainingSet::batches`]; [`Error::UnknownColumn`] when there is no such column, [`Error::ColumnType`] when a feature
    /// or the label is not a number.
    pub async fn dataset(&self, label: &str) -> Result<Dataset> {
        let features: Vec<String> = self.origin.features.iter().filter(|f| *f != label).cloned().collect();
        Dataset::collect(&self.subject(), self.batches().await?, &features, label).await
    }

    /// A train and a test part. The rows are computed now, and both parts lie in temporary files.
    ///
    /// For a set of rows, selections and encoders learn from the train part alone. The train part is what all selections keep, as
    /// in a materialization over these rows. The test part is encoded with the states of the train part; of the selections only
    /// those that say which rows the model is about ([`Purpose::Population`](crate::encoder::Purpose)) apply to it, with the
    /// states of the train part, and none that thin rows out. A train part that is split again learns from its own train part.
    /// Both parts of a test part keep the states that it had.
    ///
    /// All rows are known as of the training set's as-of, the labels of the train part too. To score a model by what was known at
    /// the end of the train part, run a [backtest](crate::FeatureStore::backtest).
    ///
    /// ```no_run
    /// # async fn train(store: asof::FeatureStore) -> asof::Result<()> {
    /// use asof::{AsOf, training::Split};
    /// use chrono::TimeDelta;
    ///
    /// let as_of: AsOf = "2014-11-01".parse()?;
    /// let rows = store.training_set("taxi_v1", as_of).await?;
    /// let (train, test) = rows.split(Split::by_time("2014-10-01".parse()?).embargo(TimeDelta::days(1))).await?;
    /// println!("{}\n{}", train.summary().await?, test.summary().await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Definition`] for a split that means nothing or leaves no row to the train part, and for a kept set of rows, whose states
    /// have learned from all rows; [`Error::UnknownColumn`] and [`Error::ColumnType`] for a column that the rows lack or that cannot be
    /// hashed; and as [`TrainingSet::batches`].
    pub async fn split(&self, split: Split) -> Result<(TrainingSet, TrainingSet)> {
        let rule = split.rule()?;
        let (schema, mut rows) = match &self.rows {
            Rows::OfSet(rows) => (rows.queried_schema(), rows.queried()),
            Rows::Kept { .. } if self.origin.as_of.is_some() => {
                let reason = "it was kept with features whose encoders have learned from all of its rows, so a test part would \
                              show what training must not know; split the training set first and keep the parts";
                return Err(Error::Definition { subject: self.subject(), reason: reason.into() });
            }
            _ => self.plain().await?,
        };
        let features = match &self.rows {
            // The query's own columns may have the names of features, so only what was added to them is left out.
            Rows::OfSet(rows) => rows.added(),
            _ => self.origin.features.clone(),
        };
        let (mut train, mut test) = (RowBuffer::create(schema.clone())?, RowBuffer::create(schema.clone())?);
        // A split that does not fit is refused for rows of any number.
        sides(&self.origin, &rule, &features, &RecordBatch::new_empty(schema))?;
        while let Some(batch) = rows.try_next().await? {
            let sides = sides(&self.origin, &rule, &features, &batch)?;
            train.write(&filter_record_batch(&batch, &sides.train)?)?;
            test.write(&filter_record_batch(&batch, &sides.test)?)?;
        }
        let (train, test) = (train.finish()?, test.finish()?);
        if train.rows() == 0 && test.rows() > 0 {
            let reason = format!("the split leaves all of its {} rows to the test part, and none to learn from", test.rows());
            return Err(Error::Definition { subject: self.subject(), reason });
        }
        let (train, test) = match &self.rows {
            Rows::OfSet(rows) => {
                let (train, test) = rows.split(train, test);
                (Rows::OfSet(train), Rows::OfSet(test))
            }
            _ => (Rows::Buffered(Arc::new(train)), Rows::Buffered(Arc::new(test))),
        };
        let part = |side, rows| {
            let mut origin = self.origin.as_ref().clone();
            origin.splits.push((rule.clone(), side));
            TrainingSet { origin: Arc::new(origin), rows, ..self.clone() }
        };
        Ok((part(SplitSide::Train, train), part(SplitSide::Test, test)))
    }

    /// What row selections have learned, in their order; empty for a set of entities. A test part has the states of its train
    /// part, and their counts of rows.
    ///
    /// # Errors
    /// As [`TrainingSet::dataframe`].
    pub async fn selections(&self) -> Result<Vec<StepState>> {
        Ok(match &self.rows {
            Rows::OfSet(rows) => rows.states(&self.workspace.engine).await?.selections.clone(),
            Rows::Kept { manifest, .. } => manifest.selections.clone(),
            _ => Vec::new(),
        })
    }

    /// What encoders have learned, in their order; empty for a set of entities. A test part has the states of its train part.
    ///
    /// # Errors
    /// As [`TrainingSet::dataframe`].
    pub async fn encoders(&self) -> Result<Vec<StepState>> {
        Ok(match &self.rows {
            Rows::OfSet(rows) => rows.states(&self.workspace.engine).await?.encoders.clone(),
            Rows::Kept { manifest, .. } => manifest.encoders.clone(),
            _ => Vec::new(),
        })
    }

    /// Counts, NULL rates, classes and ranges of the rows; all rows are read. It prints as a table.
    ///
    /// # Errors
    /// As [`TrainingSet::batches`].
    pub async fn summary(&self) -> Result<Summary> {
        let (schema, rows) = self.plain().await?;
        summarize(&self.origin, &schema, rows).await
    }

    /// Writes the rows to one Parquet file, a path of this machine or a URL, which replaces one of that name.
    ///
    /// # Errors
    /// [`Error::InvalidLocation`] for a location that cannot be opened or is a folder, [`Error::Storage`], [`Error::Io`] and
    /// [`Error::ReadOnly`] when it cannot be written, and as [`TrainingSet::batches`].
    pub async fn write_parquet(&self, location: &str) -> Result<()> {
        let (folder, name) = export::destination(&self.workspace.locations, location)?;
        let (schema, rows) = self.plain().await?;
        export::write_parquet(schema, rows, &folder, &name).await
    }

    /// Writes the rows to one CSV file with a header, a path of this machine or a URL, which replaces one of that name.
    ///
    /// Floats have the digits that read as the same float, instants are written in RFC 3339, and NULL is an empty cell. An empty
    /// text is an empty cell too, and is read as NULL.
    ///
    /// # Errors
    /// As [`TrainingSet::write_parquet`]; [`Error::ColumnType`] for a column of lists, structs or maps, which CSV cannot hold.
    pub async fn write_csv(&self, location: &str) -> Result<()> {
        let (folder, name) = export::destination(&self.workspace.locations, location)?;
        let (schema, rows) = self.plain().await?;
        export::write_csv(&self.subject(), &schema, rows, &folder, &name).await
    }

    /// Publishes the rows below the store's root, with a manifest, and returns them as they were kept.
    ///
    /// They are kept under the hash of their content and of what they were made of. Keeping the same rows under the same name
    /// again finds them and writes nothing. [`FeatureStore::kept_training_set`](crate::FeatureStore::kept_training_set) opens
    /// them, in any process, also when the facts or the feature set are gone. A garbage collection does not remove them; to
    /// remove them, delete their folder.
    ///
    /// # Errors
    /// [`Error::InvalidName`] for a name with other characters than lower-case letters, digits and underscores;
    /// [`Error::Storage`], [`Error::Io`] and [`Error::ReadOnly`] when they cannot be written; and as [`TrainingSet::batches`].
    pub async fn keep(&self, name: &str) -> Result<TrainingSet> {
        keep::keep(self, name).await
    }

    /// Reads every file of a kept set again and compares its hash with the published one; does nothing for a set that is not
    /// kept.
    ///
    /// # Errors
    /// [`Error::Corrupt`] names the first file that differs.
    pub async fn verify(&self) -> Result<()> {
        match &self.rows {
            Rows::Kept { parts, manifest } => parts.verify(manifest.parts.iter()).await,
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for TrainingSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrainingSet({}", self.origin.set)?;
        if let Some(as_of) = self.origin.as_of {
            write!(f, " as of {as_of}")?;
        }
        for (rule, side) in &self.origin.splits {
            write!(f, ", the {side} part of a split {rule}")?;
        }
        match self.manifest() {
            Some(manifest) => write!(f, ", kept as {}/{})", manifest.name, manifest.id),
            None => f.write_str(")"),
        }
    }
}
