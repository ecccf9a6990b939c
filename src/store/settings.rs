//! The settings of a store: plain data that can be compared, printed, read from a file and read back.
//! What lives, such as clients and clocks, is in the options.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::engine::Resources;

/// The settings with which a store is opened; [`FeatureStore::settings`](crate::FeatureStore::settings) returns them.
///
/// ```
/// # fn main() -> Result<(), serde_json::Error> {
/// use asof::{CachePlace, StoreOptions, StoreSettings};
///
/// let settings: StoreSettings = serde_json::from_str(
///     r#"{ "cache": "memory", "disk_cache": { "dir": "/var/cache/facts", "limit_bytes": 10737418240 } }"#,
/// )?;
/// assert_eq!(settings.cache, CachePlace::Memory);
/// let options = StoreOptions::default().settings(settings);
/// # let _ = options;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// Where the cache of manifests and of rows by key lies.
    pub cache: CachePlace,
    /// The cache of what queries read of fact tables in object stores; `None` for none.
    pub disk_cache: Option<DiskCacheSettings>,
    /// Whether the rows that are served by key are held in memory as a whole, instead of being read from their file one by one.
    pub resident_rows: bool,
    /// Materializations of sets of entities keep tiles of files with at least this many facts, so that a later one need not read the
    /// files again; `None`: they neither keep nor use tiles. See
    /// [`StoreOptions::incremental_from`](crate::StoreOptions::incremental_from).
    pub incremental_from: Option<u64>,
    /// Memory and tasks.
    pub resources: Resources,
}

impl Default for StoreSettings {
    /// A cache below the root, no disk cache, rows by key in their file, no tiles.
    fn default() -> Self {
        Self {
            cache: CachePlace::default(),
            disk_cache: None,
            resident_rows: false,
            incremental_from: None,
            resources: Resources::default(),
        }
    }
}

/// Where the cache of manifests and of rows by key lies.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CachePlace {
    /// In `.asof-cache` below a root on this machine, and in memory for any other root.
    #[default]
    BelowRoot,
    /// In this directory, which one process at a time can use. It is empty, does not exist yet, or was made by this library.
    Dir(PathBuf),
    /// In memory: nothing is locked, and each process rebuilds it from the root.
    Memory,
}

/// A directory for bytes of object stores, and the most that it may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskCacheSettings {
    /// The directory. Processes that share it give the same limit.
    pub dir: PathBuf,
    /// The most bytes of all of its files.
    pub limit_bytes: u64,
}

impl fmt::Display for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cache {
            CachePlace::BelowRoot => writeln!(f, "cache: below the root")?,
            CachePlace::Dir(dir) => writeln!(f, "cache: {}", on_one_line(dir))?,
            CachePlace::Memory => writeln!(f, "cache: in memory")?,
        }
        match &self.disk_cache {
            Some(DiskCacheSettings { dir, limit_bytes }) => {
                writeln!(f, "disk cache: {}, at most {limit_bytes} bytes", on_one_line(dir))?;
            }
            None => writeln!(f, "disk cache: none")?,
        }
        writeln!(f, "rows by key: {}", if self.resident_rows { "held in memory" } else { "read from their file" })?;
        match self.incremental_from {
            Some(facts) => writeln!(f, "tiles: of files with {facts} facts or more")?,
            None => writeln!(f, "tiles: none")?,
        }
        let Resources { memory_bytes, held_bytes, partitions, batch_rows } = &self.resources;
        writeln!(f, "memory: {memory_bytes} bytes before spilling, {held_bytes} bytes held")?;
        write!(f, "tasks of a query: {partitions}, {batch_rows} rows in a batch")
    }
}

/// A path in which line breaks and other control characters are written as escapes.
fn on_one_line(path: &Path) -> String {
    path.display().to_string().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_from_their_text_and_what_is_left_out_is_the_default() {
        let disk_cache = Some(DiskCacheSettings { dir: "/c".into(), limit_bytes: 1 << 30 });
        for cache in [CachePlace::BelowRoot, CachePlace::Dir("/k".into()), CachePlace::Memory] {
            let resources = Resources { partitions: 3, ..Resources::default() };
            let incremental_from = None;
            let settings =
                StoreSettings { cache, disk_cache: disk_cache.clone(), resident_rows: true, incremental_from, resources };
            let text = serde_json::to_string(&settings).unwrap();
            assert_eq!(serde_json::from_str::<StoreSettings>(&text).unwrap(), settings, "{text}");
            let shown = settings.to_string();
            assert!(
                shown.contains("disk cache: /c, at most 1073741824 bytes\n") && shown.contains("tasks of a query: 3"),
                "{shown}"
            );
        }
        assert_eq!(serde_json::from_str::<StoreSettings>("{}").unwrap(), StoreSettings::default());
        let partly: StoreSettings = serde_json::from_str(r#"{"resources": {"batch_rows": 7}}"#).unwrap();
        assert_eq!(partly.resources, Resources { batch_rows: 7, ..Resources::default() });
        assert!(serde_json::from_str::<StoreSettings>(r#"{"resources": {"memory": 7}}"#).is_err());
    }
}
