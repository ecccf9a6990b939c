//! Feature sets: registering, materializing, serving and backtesting them, and training sets.

use std::sync::{Arc, PoisonError};

use super::FeatureStore;
use crate::{
    backtest::{self, Backtest, BacktestReport, FeatureGains},
    catalog::Change,
    error::{Error, Result},
    feature_set::FeatureSet,
    materialize::{self, BuildThreads, Materialization, MaterializationPlan},
    models,
    name::{SetName, shown},
    online::Online,
    time::{AsOf, Every, Zone},
    training::{self, TrainingRows, TrainingSet},
};

/// Feature sets.
impl FeatureStore {
    /// Registers a feature set with this handle of the store.
    ///
    /// The first materialization binds the set's name to its definition in the root, for all handles and processes. Using the
    /// name for another definition is then refused with [`Error::AlreadyExists`]. Until then a set can be edited freely; see
    /// also [`FeatureStore::forget_set`]. Registering the same definition again takes over its owner and descriptions.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when another definition is registered under the same name.
    pub fn register(&self, set: FeatureSet) -> Result<()> {
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        match sets.get_mut(set.name()) {
            Some(known) => {
                set.check_same(&known.fingerprint, &known.declared, "; or release it with `FeatureStore::forget_set`")?;
                known.notes = set.notes;
                Ok(())
            }
            None => {
                sets.insert(set.name().clone(), set);
                Ok(())
            }
        }
    }

    /// Releases a set's name, here and in the root, so that another definition can take it. It is meant for definitions that are
    /// still being developed, and is refused as long as a materialization of the set is published, or a recorded model was fitted
    /// on the set.
    ///
    /// Nobody should materialize the set at the same time: what is published at the moment in which the name is released stays, under
    /// a name that others may take.
    ///
    /// # Errors
    /// [`Error::InvalidName`], and [`Error::InUse`] when something is published under the name, or a recorded model uses it;
    /// [`Error::Corrupt`] and [`Error::Format`] for the record of a model that cannot be read.
    pub async fn forget_set(&self, set: &str) -> Result<Change> {
        let name: SetName = set.parse()?;
        models::refuse_used(&self.workspace, &name).await?;
        let in_root = materialize::forget(&self.workspace, &name).await?;
        let here = self.sets.write().unwrap_or_else(PoisonError::into_inner).remove(&name);
        Ok(if here.is_some() { Change::Done } else { in_root })
    }

    /// The registered feature set of this name.
    ///
    /// # Errors
    /// [`Error::UnknownFeatureSet`] when it is not registered.
    pub fn feature_set(&self, name: &str) -> Result<FeatureSet> {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        let found = name.parse::<SetName>().ok().and_then(|name| sets.get(&name).cloned());
        found.ok_or_else(|| Error::UnknownFeatureSet { name: shown(name), known: sets.keys().map(ToString::to_string).collect() })
    }

    /// Materializes the rows of a feature set at an instant, over the facts that are in the catalog now.
    ///
    /// It is made once: a second call with the same definition, instant and facts finds it and reads no data. Of such calls at the same
    /// time, by clones of a store, one computes and the others wait for the result. If it fails, it gets the error, and another one
    /// computes; if it is dropped, the others go on with what it began. Rows are written to the root only; [`FeatureStore::online`] reads
    /// those that it serves into the cache.
    ///
    /// # Errors
    /// [`Error::UnknownFeatureSet`], [`Error::UnknownTable`], [`Error::FileChanged`] for what it is made of, [`Error::Step`]
    /// when an encoder or row selection fails, [`Error::AlreadyExists`] when the root holds another definition under the set's
    /// name, or the code has changed and its revision has not, [`Error::Definition`] for an extract that cannot be planned.
    /// After an error nothing is published.
    pub async fn materialize(&self, set: &str, as_of: AsOf) -> Result<Materialization> {
        materialize::materialize(&self.workspace, &self.catalog_set(set)?, as_of).await
    }

    /// Materializes a feature set at several instants, over the facts that are in the catalog now: for each instant, in the order given,
    /// what [`FeatureStore::materialize`] gives, with the same id and the same bytes. What is published already is found.
    ///
    /// The facts are read once and not once for each instant, unless a table has an identity, the set has labels ahead, or its query joins
    /// or aggregates. The instants of a set of entities share a pass as far as
    /// [`held_bytes`](crate::Resources::held_bytes) allow; more instants take several passes. Materializations are published one by one: after an error or a
    /// crash those that are there are complete, and the next call makes the others. What one instant alone cannot compute, such as a
    /// filter that divides by zero in a fact, stops all that share the work.
    ///
    /// ```no_run
    /// # async fn run(store: asof::FeatureStore) -> asof::Result<()> {
    /// let instants = ["2014-10-01".parse()?, "2014-11-01".parse()?, "2014-12-01".parse()?];
    /// for made in store.materialize_many("zone_demand_v1", &instants).await? {
    ///     println!("{} {} rows", made.as_of(), made.rows());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`FeatureStore::materialize`]; and [`Error::Definition`] for no instants, and when no fact was visible at any of them.
    pub async fn materialize_many(&self, set: &str, instants: &[AsOf]) -> Result<Vec<Materialization>> {
        materialize::materialize_many(&self.workspace, &self.catalog_set(set)?, instants).await
    }

    /// As [`FeatureStore::materialize_many`], at instants a calendar step apart: `from`, and the same local time of each later day, week
    /// or month before `to`, which is excluded.
    ///
    /// ```no_run
    /// # async fn run(store: asof::FeatureStore) -> asof::Result<()> {
    /// use asof::time::Every;
    /// let new_york = "America/New_York".parse()?;
    /// let (from, to) = ("2014-01-01T05:00:00Z".parse()?, "2015-01-01T05:00:00Z".parse()?);
    /// let months = store.materialize_range("zone_demand_v1", from, to, Every::Month, new_york).await?;
    /// assert_eq!(months.len(), 12);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`FeatureStore::materialize_many`], and as [`Every::instants`].
    pub async fn materialize_range(
        &self,
        set: &str,
        from: AsOf,
        to: AsOf,
        every: Every,
        zone: Zone,
    ) -> Result<Vec<Materialization>> {
        self.materialize_many(set, &every.instants(from, to, zone)?).await
    }

    /// What [`FeatureStore::materialize`] would do now: the files that it would read, with their rows, bytes and partitions, what it
    /// would compute, and whether the rows are published and cached already.
    ///
    /// It reads the catalog and, if there is one, the manifest. It opens no file of facts and no file with rows, and writes nothing.
    /// Mistakes that tables show without being read, such as an unknown column of a lookup, are reported as `materialize` reports
    /// them; those in the SQL of a set of rows are not found.
    ///
    /// ```no_run
    /// # async fn run(store: asof::FeatureStore) -> asof::Result<()> {
    /// let plan = store.plan("taxi_v1", "2014-11-01".parse()?).await?;
    /// println!("{plan}");
    /// if plan.bytes() > 10 << 30 {
    ///     println!("more than 10 GiB of facts");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownFeatureSet`] and [`Error::UnknownTable`], [`Error::AlreadyExists`] when the root holds another definition
    /// under the set's name, [`Error::UnknownColumn`] and [`Error::ColumnType`] for columns that a set of entities names, and
    /// [`Error::Corrupt`] for a damaged manifest.
    pub async fn plan(&self, set: &str, as_of: AsOf) -> Result<MaterializationPlan> {
        materialize::plan(&self.workspace, &self.catalog_set(set)?, as_of).await
    }

    /// Serves the newest published materialization of a feature set, made by any process with this definition.
    ///
    /// The first call for a materialization of entities reads its files and writes the rows into the cache by key. Later calls, also
    /// of later processes, only read the first key of every few rows. Rows stay in the cache as long as an [`Online`] over them
    /// lives; besides, the rows of a set's eight most recently opened materializations stay.
    ///
    /// A materialization whose manifest is damaged is passed over with a warning in the log, so that a service goes on with the one
    /// before it. Compare [`Materialization::as_of`](crate::Materialization::as_of) with what you expect.
    ///
    /// # Errors
    /// [`Error::UnknownFeatureSet`] when it is not registered, [`Error::NotFound`] when it was never materialized,
    /// [`Error::AlreadyExists`] when the root holds another definition under its name.
    pub async fn online(&self, set: &str) -> Result<Online> {
        let set = self.feature_set(set)?;
        let made = self.newest(&set).await?;
        self.online_for(&made).await
    }

    async fn newest(&self, set: &FeatureSet) -> Result<Materialization> {
        materialize::newest(&self.workspace, set).await?.ok_or_else(|| materialize::never_materialized(set))
    }

    /// Serves this materialization. If its set draws on others, the newest materialization of each of these is pinned.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when its files are not what was published, [`Error::Cache`] when they cannot be cached,
    /// [`Error::NotFound`] when a set that it draws on was never materialized; for a materialization that was opened by its id,
    /// [`Error::UnknownFeatureSet`] and [`Error::MadeOtherwise`] when the definition that made it is not registered.
    pub async fn online_for(&self, materialization: &Materialization) -> Result<Online> {
        let materialization = &self.with_definition(materialization).await?;
        let mut drawn = Vec::new();
        for set in materialization.set()?.drawn_on() {
            drawn.push(self.newest(set).await.map_err(|e| match e {
                Error::NotFound { subject, reason } => {
                    let by = &materialization.manifest().set;
                    Error::NotFound { subject: format!("{subject}, on which `{by}` draws,"), reason }
                }
                other => other,
            })?);
        }
        Online::new(materialization.clone(), drawn, Arc::default(), BuildThreads::Two).await
    }

    /// Serves this materialization with these ones of the sets that it draws on, in the order of its definition. A service that
    /// refreshes them opens one after the other.
    ///
    /// # Errors
    /// As [`FeatureStore::online_for`]; and [`Error::Definition`] when they are not those of the sets that are drawn on.
    pub async fn online_with(&self, materialization: &Materialization, drawn_on: &[Materialization]) -> Result<Online> {
        let materialization = &self.with_definition(materialization).await?;
        let set = materialization.set()?;
        let wanted: Vec<&FeatureSet> = set.drawn_on().collect();
        let fits = |(made, wanted): (&Materialization, &&FeatureSet)| made.manifest().fingerprint == *wanted.fingerprint();
        if wanted.len() != drawn_on.len() || !drawn_on.iter().zip(&wanted).all(fits) {
            let names = |sets: Vec<String>| if sets.is_empty() { "none".to_owned() } else { sets.join(", ") };
            return Err(Error::Definition {
                subject: format!("feature set `{}`", set.name()),
                reason: format!(
                    "it draws on {}, and materializations of {} were given: give one of each set, with its definition, in this order",
                    names(wanted.iter().map(|set| format!("`{}`", set.name())).collect()),
                    names(drawn_on.iter().map(|made| format!("`{}`", made.manifest().set)).collect()),
                ),
            });
        }
        // The sets that are drawn on are part of the definition, and need not be registered.
        let drawn_on = drawn_on.iter().zip(wanted).map(|(made, set)| made.defined_by(set)).collect();
        Online::new(materialization.clone(), drawn_on, Arc::default(), BuildThreads::Two).await
    }

    /// The training set of a feature set, over the facts that are in the catalog now.
    ///
    /// For a set of **entities** give a [`Spine`](crate::temporal::Spine): its rows get the features of their entities as they
    /// were at each row's own instant, one row out per row in, in order. The features of a row `(k, t)` are those of entity `k`
    /// in the materialization as of `t`, bit for bit: both use the same operators.
    ///
    /// For a set of **rows** give an [`AsOf`]: the rows are those of the materialization as of this instant, bit for bit. Unlike
    /// a materialization they can be split, with states that the train part alone has taught.
    ///
    /// ```no_run
    /// # async fn train(store: asof::FeatureStore) -> asof::Result<()> {
    /// use asof::{AsOf, temporal::Spine, training::Split};
    ///
    /// let rides = store.read_parquet("data/rides.parquet").await?; // pickup_zone, at, label
    /// let rows = store.training_set("zone_demand_v1", Spine::new(rides, "at")).await?;
    /// rows.write_parquet("data/training.parquet").await?;
    ///
    /// let as_of: AsOf = "2014-11-01".parse()?;
    /// let rows = store.training_set("taxi_v1", as_of).await?;
    /// let (train, test) = rows.split(Split::by_time("2014-10-01".parse()?)).await?;
    /// let matrices = train.dataset("total_amount").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownFeatureSet`] and [`Error::UnknownTable`]; [`Error::Definition`] for a spine with a set of rows and for an
    /// as-of with a set of entities; [`Error::AlreadyExists`] when the root holds another definition under the set's name;
    /// [`Error::UnknownColumn`] and [`Error::ColumnType`] when the spine lacks a key or an instant, or has one that cannot be
    /// compared.
    pub async fn training_set(&self, set: &str, rows: impl Into<TrainingRows>) -> Result<TrainingSet> {
        training::training_set(&self.workspace, &self.clock, &self.catalog_set(set)?, rows.into()).await
    }

    /// The training set that was kept last under this name, by the clock of the store that kept it.
    ///
    /// It needs neither the facts nor the feature set that it was made of.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::NotFound`] when none was kept, and [`Error::Corrupt`] and [`Error::Format`] for a
    /// manifest that cannot be read.
    pub async fn kept_training_set(&self, name: &str) -> Result<TrainingSet> {
        training::kept_training_set(&self.workspace, &self.clock, name).await
    }

    /// All training sets that were kept under this name, in the order of
    /// [`TrainingManifest::kept_at`](training::TrainingManifest). They have different ids.
    ///
    /// # Errors
    /// As [`FeatureStore::kept_training_set`]; if there is none, the list is empty.
    pub async fn kept_training_sets(&self, name: &str) -> Result<Vec<TrainingSet>> {
        training::kept_training_sets(&self.workspace, &self.clock, name).await
    }

    /// Fits a model before each cutoff, scores it after the cutoff, and reports both over time.
    ///
    /// # Errors
    /// As [`FeatureStore::materialize`], and [`Error::Step`] when a learner fails.
    pub async fn backtest(&self, backtest: &Backtest) -> Result<BacktestReport> {
        backtest::run(&self.workspace, &self.catalog_set(&backtest.set)?, backtest).await
    }

    /// Runs a backtest with all its features, and without each one in turn: what each feature adds to the others.
    ///
    /// Rows are materialized, and scored rows are computed, once for all of them. Only fitting and scoring is repeated. A set with a
    /// single feature is compared with the mean of its labels. Features that tell the same have little gain each, so leave groups of
    /// them out with [`Backtest::without`], too.
    ///
    /// ```
    /// # async fn show(store: asof::FeatureStore, folds: asof::backtest::Folds) -> asof::Result<()> {
    /// use asof::backtest::Backtest;
    /// let gains = store.feature_gains(&Backtest::new("taxi_v2", "total_amount", folds)).await?;
    /// println!("{gains}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`FeatureStore::backtest`].
    pub async fn feature_gains(&self, backtest: &Backtest) -> Result<FeatureGains> {
        backtest::gains(&self.workspace, &self.catalog_set(&backtest.set)?, backtest).await
    }

    /// The registered feature set of this name, if none of its tables is a provider.
    pub(super) fn catalog_set(&self, name: &str) -> Result<FeatureSet> {
        let set = self.feature_set(name)?;
        self.providers.refuse_any_of(&format!("feature set `{name}`"), &set.tables)?;
        Ok(set)
    }
}
