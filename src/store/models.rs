//! Models: which rows they were fitted on, their bytes, and what they saw.

use super::FeatureStore;
use crate::{
    catalog::Change,
    error::Result,
    models::{self, ModelOrigin, NewModel, RecordedModel},
    name::ContentId,
};

/// Models.
impl FeatureStore {
    /// Records a model: its bytes, what it was fitted on, and what is to be known about it. Recording the same again finds it; it
    /// then keeps the time at which it was recorded first.
    ///
    /// A model exists once its record is there, and is never changed. As long as it exists, a garbage collection keeps what it was
    /// fitted on and the versions of the tables of that, with their files.
    ///
    /// ```no_run
    /// # async fn train(store: asof::FeatureStore) -> asof::Result<()> {
    /// use asof::{AsOf, models::NewModel, training::Split};
    ///
    /// // Of a materialization ...
    /// let as_of: AsOf = "2014-11-01".parse()?;
    /// let made = store.materialize("taxi_v1", as_of).await?;
    /// store.record_model(NewModel::new("fare", &made).artifact_file("target/fare.onnx").metadata("rmse", "3.1")).await?;
    ///
    /// // ... or of a training set that was kept.
    /// let rows = store.training_set("taxi_v1", as_of).await?;
    /// let (train, _test) = rows.split(Split::by_time("2014-10-01".parse()?)).await?;
    /// let train = train.keep("taxi_train").await?;
    /// store.record_model(NewModel::new("fare_trial", &train).artifact(b"weights".to_vec())).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidName`](crate::Error::InvalidName) for a name of a model or of metadata;
    /// [`Error::Limit`](crate::Error::Limit) for too much metadata; [`Error::Definition`](crate::Error::Definition) without an
    /// artifact, and for a training set that was not kept; [`Error::NotFound`](crate::Error::NotFound) when what it was fitted on
    /// is not published below this root; [`Error::NoFiles`](crate::Error::NoFiles),
    /// [`Error::InvalidLocation`](crate::Error::InvalidLocation) and [`Error::UnreadableFile`](crate::Error::UnreadableFile) for
    /// an artifact that is not there, cannot be named or changes while it is copied; [`Error::Storage`](crate::Error::Storage),
    /// [`Error::Io`](crate::Error::Io) and [`Error::ReadOnly`](crate::Error::ReadOnly) when it cannot be written. After an error no
    /// model is recorded, or, if only the last answer of an object store was lost, the whole one.
    pub async fn record_model(&self, model: NewModel) -> Result<RecordedModel> {
        models::record(&self.workspace, self.clock.as_ref(), model).await
    }

    /// The model that was recorded last under this name, by the clock of the store that recorded it.
    ///
    /// ```no_run
    /// # async fn serve(store: asof::FeatureStore) -> asof::Result<()> {
    /// let model = store.model("fare").await?;
    /// println!("{} was fitted on {}", model.name(), model.fitted_on());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidName`](crate::Error::InvalidName), [`Error::NotFound`](crate::Error::NotFound) when none was recorded, and
    /// [`Error::Corrupt`](crate::Error::Corrupt) and [`Error::Format`](crate::Error::Format) for a record that cannot be read.
    pub async fn model(&self, name: &str) -> Result<RecordedModel> {
        models::model(&self.workspace, name).await
    }

    /// All models that were recorded under this name, the oldest first. They have different ids.
    ///
    /// # Errors
    /// As [`FeatureStore::model`]; if there is none, the list is empty.
    pub async fn models(&self, name: &str) -> Result<Vec<RecordedModel>> {
        models::models(&self.workspace, name).await
    }

    /// Removes the record of a model. From then on a garbage collection removes its bytes and what only it needed.
    ///
    /// The record is removed without being read, so a damaged one can be removed too.
    ///
    /// # Errors
    /// [`Error::InvalidName`](crate::Error::InvalidName), and [`Error::Storage`](crate::Error::Storage) when it cannot be removed.
    pub async fn forget_model(&self, name: &str, id: ContentId) -> Result<Change> {
        models::forget(&self.workspace, name, id).await
    }

    /// What the model that was recorded last under this name saw; of an older one, ask [`RecordedModel::why`]. It prints as a tree
    /// from the model down to the source files that were loaded, with their sizes and times.
    ///
    /// ```no_run
    /// # async fn ask(store: asof::FeatureStore) -> asof::Result<()> {
    /// println!("{}", store.why_model("fare").await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`FeatureStore::model`] and [`RecordedModel::why`].
    pub async fn why_model(&self, name: &str) -> Result<ModelOrigin> {
        self.model(name).await?.why().await
    }
}
