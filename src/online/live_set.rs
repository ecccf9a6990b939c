//! One set that moves to newer materializations while it is served: a live group of one, with its reads at hand.

use std::{fmt, sync::Arc, time::Duration};

use arrow::array::RecordBatch;

use super::{
    feature_row::FeatureRow,
    live::LiveGroup,
    live_status::{LiveStatus, Refresh},
    serve::Online,
    watch::Watch,
};
use crate::{error::Result, name::ContentId, time::AsOf, value::Value};

/// A feature set that is served, and moves to newer materializations in one step.
///
/// Clones are handles to the same. [`Live::get`] and the like ask what is served at the moment of the call; a request that asks several
/// times takes [`Live::current`] once. See [`FeatureStore::live`](crate::FeatureStore::live) and, for sets that move together,
/// [`LiveGroup`].
///
/// ```no_run
/// # async fn run(store: asof::FeatureStore) -> asof::Result<()> {
/// use asof::Value;
/// use std::time::Duration;
///
/// let zones = store.live("zone_v1").await?;
/// let _watch = zones.watch(Duration::from_secs(30))?; // as long as it lives
/// let row = zones.get(&[Value::Int(161)])?;
/// println!("{:?} as of {}", row.number("trips_24h")?, zones.status().as_of);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Live(LiveGroup);

impl Live {
    /// A group that was opened with one set.
    pub(crate) fn new(group: LiveGroup) -> Self {
        Self(group)
    }

    /// What is served now. It takes no lock and waits for nothing, and it answers as long as it is held.
    pub fn current(&self) -> Arc<Online> {
        self.0.load().first.online.clone()
    }

    /// The group of this set alone. It also follows the sets that this one draws on, which can be pinned there by their names.
    pub fn group(&self) -> &LiveGroup {
        &self.0
    }

    /// Moves to the newest published materialization; as [`LiveGroup::refresh`].
    ///
    /// # Errors
    /// As [`LiveGroup::refresh`].
    pub async fn refresh(&self) -> Result<Refresh> {
        self.0.refresh().await
    }

    /// Serves this materialization of the set and stays there; as [`LiveGroup::pin`].
    ///
    /// # Errors
    /// As [`LiveGroup::pin`].
    pub async fn pin(&self, id: ContentId) -> Result<()> {
        let name = self.current().materialization().manifest().set.clone();
        self.0.pin(name.as_str(), id).await
    }

    /// Lets the set move again, with the next refresh. Nothing happens when it is not pinned.
    pub fn unpin(&self) {
        self.0.unpin_first();
    }

    /// Refreshes every so often until the guard is dropped; as [`LiveGroup::watch`].
    ///
    /// # Errors
    /// As [`LiveGroup::watch`].
    pub fn watch(&self, every: Duration) -> Result<Watch> {
        self.0.watch(every)
    }

    /// What is served, and whether refreshes succeed.
    pub fn status(&self) -> LiveStatus {
        self.0.first_status()
    }

    /// The features of the entity with this key, as [`Online::get`] of what is served now.
    ///
    /// # Errors
    /// As [`Online::get`].
    pub fn get(&self, key: &[Value]) -> Result<FeatureRow> {
        self.0.load().first.online.get(key)
    }

    /// The features of the entity with this key at an instant, as [`Online::get_at`] of what is served now.
    ///
    /// # Errors
    /// As [`Online::get_at`].
    pub fn get_at(&self, key: &[Value], at: AsOf) -> Result<FeatureRow> {
        self.0.load().first.online.get_at(key, at)
    }

    /// Whether there is a visible fact about the entity with this key, as [`Online::contains`] of what is served now.
    ///
    /// # Errors
    /// As [`Online::contains`].
    pub fn contains(&self, key: &[Value]) -> Result<bool> {
        self.0.load().first.online.contains(key)
    }

    /// The features of request rows, as [`Online::encode`] of what is served now.
    ///
    /// # Errors
    /// As [`Online::encode`].
    pub fn encode(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        self.current().encode(rows)
    }

    /// The features of one request, as [`Online::encode_row`] of what is served now.
    ///
    /// # Errors
    /// As [`Online::encode_row`].
    pub fn encode_row(&self, values: &[(&str, Value)]) -> Result<FeatureRow> {
        self.current().encode_row(values)
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Live({:?})", self.current().materialization())
    }
}
