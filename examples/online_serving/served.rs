//! What is served: features, and the model that fits them. Both are one value, which a refresh replaces in one step or leaves alone.
//! Requests are answered in `service.rs`.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use asof::{
    AsOf, FeatureStore, Materialization,
    models::RecordedModel,
    online::{LiveGroup, Online, Snapshot},
    time::{Clock, SystemClock},
};
use serde_json::{Value as Json, json};

use crate::{Fault, MODEL, RIDES, ZONES, model::LinearModel};

/// Features and the model that was fitted on them. A request takes this once, and answers from nothing else.
pub(crate) struct Served {
    /// Requests become features here. It draws on the same materialization as `zones` has.
    pub(crate) rides: Arc<Online>,
    /// Features by key.
    pub(crate) zones: Arc<Online>,
    /// The record of the model.
    pub(crate) model: RecordedModel,
    /// The model itself.
    pub(crate) function: LinearModel,
}

impl Served {
    /// Refuses a model that was not fitted on these features.
    async fn new(features: &Snapshot, model: RecordedModel) -> Result<Self, Fault> {
        let (rides, zones) = (features.set(RIDES)?.clone(), features.set(ZONES)?.clone());
        model.check_serves(rides.as_ref())?;
        let function = LinearModel::read(&model.artifact().await?, &rides)?;
        Ok(Self { rides, zones, model, function })
    }

    fn is_of(&self, features: &Snapshot, model: &RecordedModel) -> Result<bool, Fault> {
        let is_same = |mine: &Online, name| -> Result<bool, Fault> {
            Ok(mine.materialization().id() == features.set(name)?.materialization().id())
        };
        Ok(self.model.id() == model.id() && is_same(&self.rides, RIDES)? && is_same(&self.zones, ZONES)?)
    }

    /// The materializations, those of the requests first.
    pub(crate) fn materializations(&self) -> [&Materialization; 2] {
        [self.rides.materialization(), self.zones.materialization()]
    }

    /// Whose answer it is: the ids of the materializations and of the model.
    pub(crate) fn ids(&self) -> Json {
        let [rides, zones] = self.materializations().map(|made| made.id().to_string());
        json!({"materializations": {RIDES: rides, ZONES: zones}, "model": self.model.id().to_string()})
    }
}

/// Follows a root.
pub(crate) struct Follower {
    store: FeatureStore,
    /// Opened by the first refresh that finds something published. Locked by the one refresh at work.
    group: tokio::sync::Mutex<Option<LiveGroup>>,
    served: ArcSwapOption<Served>,
    refreshes: Mutex<Refreshes>,
}

/// What became of the refreshes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refreshes {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    /// When the last one succeeded.
    pub(crate) last: Option<AsOf>,
    /// Since when they have failed, and what the last one failed with.
    pub(crate) failing: Option<(AsOf, String)>,
}

impl Follower {
    pub(crate) fn new(store: FeatureStore) -> Self {
        Self { store, group: Default::default(), served: ArcSwapOption::empty(), refreshes: Mutex::default() }
    }

    /// What is served now. It takes no lock, and it answers as long as it is held.
    pub(crate) fn current(&self) -> Option<Arc<Served>> {
        self.served.load_full()
    }

    pub(crate) fn refreshes(&self) -> Refreshes {
        self.lock().clone()
    }

    pub(crate) fn now(&self) -> AsOf {
        SystemClock.now()
    }

    /// Goes over to the newest features and the newest model, if the model was fitted on them. Returns what has moved.
    ///
    /// After an error everything is served as before: also when the features have moved and their model is not recorded yet.
    pub(crate) async fn refresh(&self) -> Result<Json, Fault> {
        let outcome = self.moved().await;
        let now = self.now();
        let mut refreshes = self.lock();
        match &outcome {
            Ok(moved) => {
                refreshes.succeeded += 1;
                refreshes.last = Some(now);
                if refreshes.failing.take().is_some() || *moved != nothing_moved() {
                    tracing::info!(%moved, "refreshed");
                }
            }
            Err(error) => {
                refreshes.failed += 1;
                let since = refreshes.failing.as_ref().map(|(since, _)| *since);
                if since.is_none() {
                    tracing::warn!(%error, "not refreshed; what was served before is served on");
                }
                refreshes.failing = Some((since.unwrap_or(now), error.to_string()));
            }
        }
        outcome
    }

    async fn moved(&self) -> Result<Json, Fault> {
        let mut group = self.group.lock().await;
        let group = match &mut *group {
            Some(opened) => opened,
            none => none.insert(self.store.live_group([RIDES, ZONES]).await?),
        };
        // The group may move although the model then does not: `served` holds what it had before.
        group.refresh().await?;
        let (features, model) = (group.current(), self.store.model(MODEL).await?);
        let old = self.current();
        if let Some(old) = &old
            && old.is_of(&features, &model)?
        {
            return Ok(nothing_moved());
        }
        let new = Arc::new(Served::new(&features, model).await?);
        self.served.store(Some(new.clone()));
        Ok(moves(old.as_deref(), &new))
    }

    /// Refreshes for ever, so long after the end of each refresh. `LiveGroup::watch` would move the features alone.
    pub(crate) async fn watch(&self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            // An error is kept for `/health`.
            let _ = self.refresh().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Refreshes> {
        self.refreshes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nothing_moved() -> Json {
    json!({"moved": []})
}

/// What is another one than before, with the ids of before and now.
fn moves(old: Option<&Served>, new: &Served) -> Json {
    let mut moved = Vec::new();
    for (number, to) in new.materializations().into_iter().enumerate() {
        let shown = |made: &Materialization| json!({"id": made.id().to_string(), "as_of": made.as_of().to_string()});
        let from = old.map(|old| old.materializations()[number]);
        if from.map(Materialization::id) != Some(to.id()) {
            moved.push(json!({"set": to.manifest().set.to_string(), "from": from.map(shown), "to": shown(to)}));
        }
    }
    let from = old.map(|old| old.model.id());
    if from != Some(new.model.id()) {
        let shown = |id: asof::name::ContentId| json!({"id": id.to_string()});
        moved.push(json!({"model": new.model.name(), "from": from.map(shown), "to": shown(new.model.id())}));
    }
    json!({"moved": moved})
}
