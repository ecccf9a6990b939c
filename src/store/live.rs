//! Serving sets that move to newer materializations.

use super::FeatureStore;
use crate::{
    error::Result,
    feature_set::FeatureSet,
    online::{Live, LiveGroup},
};

/// Serving while new materializations are published.
impl FeatureStore {
    /// Serves the newest published materialization of a feature set through a handle that can move to newer ones.
    ///
    /// [`Live::refresh`] moves it, and [`Live::watch`] does so every so often. Readers never wait for that. If the set draws on others,
    /// their newest materializations are followed in the same steps. Handles are independent of each other: each one moves when it is
    /// refreshed.
    ///
    /// The newest materialization is the one with the latest as-of; of several with one as-of, the one whose tables have the higher
    /// versions in sum; and of several with the same sum, the one with the larger id. When something was published does not count.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asof::Result<()> {
    /// use asof::{FeatureSet, FeatureStore, Value, catalog::{FactTable, KnownAt}, ingest::Ingest};
    ///
    /// let store = FeatureStore::open("memory://live-doc").await?;
    /// # let dir = std::env::temp_dir().join(format!("asof-live-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir).map_err(|cause| asof::Error::Io { path: dir.clone(), cause })?;
    /// # let rides = dir.join("rides.csv");
    /// # let text = "at,zone,fare\n2014-03-01 10:00:00,1,7.5\n2014-03-02 10:00:00,1,9.5\n";
    /// # std::fs::write(&rides, text).map_err(|cause| asof::Error::Io { path: rides.clone(), cause })?;
    /// # let rides = rides.display().to_string();
    /// let table = FactTable::new("at", KnownAt::after(chrono::TimeDelta::zero())).zone("UTC".parse()?);
    /// store.ingest(&Ingest::new("rides", table)?.from(&rides)).await?;
    /// store.register(FeatureSet::entities("zone_v1", "rides").key("zone").lookup("fare", "last_fare").build()?)?;
    /// store.materialize("zone_v1", "2014-03-02".parse()?).await?;
    ///
    /// let zones = store.live("zone_v1").await?;
    /// assert_eq!(zones.get(&[Value::Int(1)])?.number("last_fare")?, Some(7.5));
    ///
    /// store.materialize("zone_v1", "2014-03-03".parse()?).await?; // here or in another process
    /// let refresh = zones.refresh().await?;
    /// assert_eq!(refresh.moved.len(), 1);
    /// assert_eq!(zones.get(&[Value::Int(1)])?.number("last_fare")?, Some(9.5));
    /// # std::fs::remove_dir_all(&dir).map_err(|cause| asof::Error::Io { path: dir.clone(), cause })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`FeatureStore::online`] and [`FeatureStore::online_for`].
    pub async fn live(&self, set: &str) -> Result<Live> {
        Ok(Live::new(self.live_group([set]).await?))
    }

    /// Serves several feature sets that move to newer materializations in the same steps, as [`FeatureStore::live`] does one.
    ///
    /// Within the group there is one materialization of each set: a set of rows draws on the one of a set of entities that the group
    /// serves. A set that is named twice is there once.
    ///
    /// ```no_run
    /// # async fn run(store: asof::FeatureStore) -> asof::Result<()> {
    /// let group = store.live_group(["fares_v2", "zone_demand_v1"]).await?;
    /// let now = group.current();
    /// let drawn_on = now.set("fares_v2")?.drawn_on()[0].id();
    /// assert_eq!(drawn_on, now.set("zone_demand_v1")?.materialization().id());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`FeatureStore::live`]; and [`Error::Definition`](crate::Error::Definition) when no set is named.
    pub async fn live_group(&self, sets: impl IntoIterator<Item = impl AsRef<str>>) -> Result<LiveGroup> {
        // They are looked up before anything is awaited, so that the future is `Send` whatever the names are.
        let sets: Result<Vec<FeatureSet>> = sets.into_iter().map(|set| self.feature_set(set.as_ref())).collect();
        LiveGroup::open(&self.workspace, &self.clock, sets?).await
    }
}
