//! The store: opens a root, connects the parts, and delegates to them.

mod cluster;
mod extracts;
mod live;
mod materializations;
mod models;
mod options;
mod parity;
mod queries;
mod read_csv;
mod sets;
mod settings;
mod tables;

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, RwLock},
};

use crate::{
    cache::Cache,
    catalog::Catalog,
    claimed_dir::Owner,
    engine::Engine,
    error::{Error, Result},
    feature_set::FeatureSet,
    kv::{self, KeyValue, MemoryKv},
    layout::{CACHE, MARKER},
    name::SetName,
    scan::Providers,
    served::ServedFiles,
    storage::{DiskCache, Location, seal, unseal},
    time::{Clock, SystemClock},
    workspace::{InFlight, Workspace},
};

pub use options::StoreOptions;
pub use settings::{CachePlace, DiskCacheSettings, StoreSettings};

/// The version of the root's layout.
const FORMAT: u32 = 2;

/// An embedded feature store over one root: a directory, or a prefix in an object store.
///
/// ```no_run
/// # async fn run() -> asof::Result<()> {
/// use asof::{AsOf, FeatureStore, catalog::{FactTable, KnownAt}, ingest::Ingest};
///
/// let store = FeatureStore::open("./store").await?; // or s3://bucket/prefix
/// let trips = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone("America/New_York".parse()?);
/// store.ingest(&Ingest::new("nyc_taxi", trips)?.from("data/*.csv")).await?;
/// let as_of: AsOf = "2014-11-01".parse()?;
/// store.sql("SELECT count(*) FROM nyc_taxi", as_of).await?.show().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FeatureStore {
    workspace: Arc<Workspace>,
    sets: Arc<RwLock<BTreeMap<SetName, FeatureSet>>>,
    providers: Providers,
    clock: Arc<dyn Clock>,
    settings: Arc<StoreSettings>,
}

/// Opening.
impl FeatureStore {
    /// Opens the store with this root, or makes it: a path of this machine, or a URL (`s3://bucket/prefix`, `file://`,
    /// `memory://`, `gs://`, `az://`). `s3`, `gs` and `az` need the [flags](crate#flags) `aws`, `gcp` and `azure`.
    ///
    /// # Errors
    /// [`Error::InvalidLocation`] for a root that cannot be opened, [`Error::Format`] for one of another version of the format,
    /// [`Error::CacheLocked`] when another process uses the cache, [`Error::Cache`] when the directory that was given for it
    /// cannot be used or holds other files, and [`Error::Definition`] for resources out of their range. If no directory was given
    /// and none can be made below the root, the cache is kept in memory, with a warning.
    pub async fn open(root: &str) -> Result<Self> {
        Self::open_with(root, StoreOptions::default()).await
    }

    /// As [`FeatureStore::open`], with options.
    ///
    /// # Errors
    /// As [`FeatureStore::open`].
    pub async fn open_with(root: &str, options: StoreOptions) -> Result<Self> {
        let StoreOptions { settings, locations, clock } = options;
        settings.resources.check()?;
        let place = locations.open(root)?;
        check_is_folder(root, &place)?;
        check_format(&place).await?;
        let (kv, cache_dir) = match &settings.cache {
            CachePlace::BelowRoot => default_cache(&place)?,
            CachePlace::Dir(dir) => (kv::open(dir, Owner::User)?, Some(dir.clone())),
            CachePlace::Memory => in_memory(),
        };
        let served = ServedFiles::new(cache_dir.as_deref(), settings.resident_rows);
        let workspace = Workspace {
            catalog: Catalog::new(&place),
            root: place,
            engine: Engine::new(settings.resources.clone()),
            locations,
            cache: Cache::new(kv, served)?,
            disk_cache: settings.disk_cache.as_ref().and_then(disk_cache),
            in_flight: InFlight::default(),
            incremental_from: settings.incremental_from,
        };
        let clock = clock.unwrap_or_else(|| Arc::new(SystemClock));
        Ok(Self {
            workspace: Arc::new(workspace),
            sets: Arc::default(),
            providers: Providers::default(),
            clock,
            settings: Arc::new(settings),
        })
    }

    /// The settings with which this store was opened. They print as lines.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asof::Result<()> {
    /// use asof::{CachePlace, FeatureStore, Resources, StoreOptions};
    ///
    /// let resources = Resources { partitions: 2, ..Resources::default() };
    /// let store = FeatureStore::open_with("memory://lab", StoreOptions::default().resources(resources)).await?;
    /// assert_eq!((store.settings().resources.partitions, &store.settings().cache), (2, &CachePlace::BelowRoot));
    /// println!("{}", store.settings());
    /// # Ok(())
    /// # }
    /// ```
    pub fn settings(&self) -> &StoreSettings {
        &self.settings
    }
}

impl fmt::Debug for FeatureStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FeatureStore({})", self.workspace.root)
    }
}

/// A cache, and its directory on this machine if it has one.
type OpenedCache = (Arc<dyn KeyValue>, Option<PathBuf>);

/// A cache below a local root; in memory for other roots, and for a root in which none can be made, as in a read-only one.
fn default_cache(root: &Location) -> Result<OpenedCache> {
    let Some(dir) = root.local_dir() else { return Ok(in_memory()) };
    let dir = dir.join(CACHE);
    match kv::open(&dir, Owner::Store) {
        Ok(kv) => Ok((kv, Some(dir))),
        Err(error @ Error::Cache { .. }) => {
            tracing::warn!(%error, "the cache is kept in memory");
            Ok(in_memory())
        }
        Err(other) => Err(other),
    }
}

fn in_memory() -> OpenedCache {
    (Arc::new(MemoryKv::default()), None)
}

/// The cache of object bytes; none, with a warning, if its directory cannot be used.
fn disk_cache(settings: &DiskCacheSettings) -> Option<DiskCache> {
    match DiskCache::open(&settings.dir, settings.limit_bytes) {
        Ok(cache) => Some(cache),
        Err(error) => {
            let reason = match error {
                Error::Cache { reason, .. } => reason,
                other => other.to_string(),
            };
            tracing::warn!(dir = %settings.dir.display(), %reason, "object stores are read without the disk cache");
            None
        }
    }
}

/// Refuses a root of another format, and writes the format of a new root.
/// Refuses a root on this machine that is, or lies below, something that is not a folder.
fn check_is_folder(root: &str, place: &Location) -> Result<()> {
    let dir = place.local_dir().unwrap_or_default();
    let file = dir.ancestors().find(|part| part.exists()).filter(|part| !part.is_dir());
    match file {
        Some(file) => {
            let reason = format!("`{}` is a file; the root of a store is a folder, which may be new", file.display());
            Err(Error::InvalidLocation { location: root.to_owned(), reason })
        }
        None => Ok(()),
    }
}

async fn check_format(root: &Location) -> Result<()> {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Marker {
        format: u32,
    }
    let marker = seal(MARKER, serde_json::to_vec(&Marker { format: FORMAT }))?;
    let known = match root.get(MARKER).await? {
        Some(known) => known,
        None => {
            let _ = root.put_if_absent(MARKER, marker.clone()).await?;
            root.get(MARKER).await?.unwrap_or_else(|| marker.into())
        }
    };
    let path = root.child(MARKER).to_string();
    let remedy = format!("it has the format of the root, and this library writes format {FORMAT}");
    unseal::<Marker>(&path, &known, FORMAT, &remedy).map(drop)
}
