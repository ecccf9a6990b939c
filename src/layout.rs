//! The paths below a store's root, and the names of temporary files: how they are made, and how they are recognized.
//! Nothing is read or written here. No other file spells one of these names; `tests/it/layers.rs` checks that.
//!
//! What each file holds is described in ARCHITECTURE.md, "On-disk format". Paths are relative to the root, with `/` between the
//! parts.

use crate::{
    name::{ContentId, SetName, TableName},
    time::AsOf,
};

/// The file that makes a folder a root.
pub(crate) const MARKER: &str = "asof.json";
/// The default folder of the cache in a root on this machine.
pub(crate) const CACHE: &str = ".asof-cache";
/// Served files, in the folder of the cache.
pub(crate) const SERVED: &str = "served";
/// Databases and table versions: `catalog/<database>/<version>`, `catalog/<database>/<table>/<version>`.
pub(crate) const CATALOG: &str = "catalog";
/// Files of loaded facts: `facts/<database>/<table>/<partition>/<file>`.
pub(crate) const FACTS: &str = "facts";
/// Lists of rejects and anomalies.
pub(crate) const REJECTS: &str = "rejects";
/// Rows that were kept out of a table.
pub(crate) const QUARANTINE: &str = "quarantine";
/// Quality reports.
pub(crate) const QUALITY: &str = "quality";
/// Bindings: `definitions/<set>/binding.json`.
pub(crate) const DEFINITIONS: &str = "definitions";
/// Which definition the name of a set stands for.
pub(crate) const BINDING: &str = "binding.json";
/// Materializations: `materialized/<set>/<as-of>-<id>/<file>`.
pub(crate) const MATERIALIZED: &str = "materialized";
/// What a materialization or a kept training set is.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Extracts: `extracts/<name>/<run>/<file>`.
pub(crate) const EXTRACTS: &str = "extracts";
/// What a run of an extract is.
pub(crate) const EXTRACT_RECORD: &str = "extract.json";

/// Tiles: `partials/<database>/<table>/<question>/<tile>`. What sets of entities keep of single files of facts; a cache, no truth.
pub(crate) const PARTIALS: &str = "partials";

/// Kept training sets: `training/<name>/<id>/<file>`.
pub(crate) const TRAINING: &str = "training";

/// Recorded models: `models/<name>/<id>/<file>`.
pub(crate) const MODELS: &str = "models";
/// What a recorded model is.
pub(crate) const MODEL_RECORD: &str = "model.json";
/// The bytes of a recorded model.
pub(crate) const MODEL_ARTIFACT: &str = "artifact.bin";

/// What the folder of a process begins with, in the system's folder for temporary files.
pub(crate) const SCRATCH_PREFIX: &str = "asof-scratch-";

/// The served file of a materialization, in its folder.
pub(crate) fn served_file(set: &SetName, id: ContentId) -> String {
    format!("{set}.{id}.rows")
}

/// The materialization whose served file has this name; `None` for other names.
pub(crate) fn served_file_of(name: &str) -> Option<(SetName, ContentId)> {
    let (set, id) = name.strip_suffix(".rows")?.rsplit_once('.')?;
    Some((set.parse().ok()?, id.parse().ok()?))
}

/// Is this a path in the default folder of the cache?
pub(crate) fn is_in_cache(path: &str) -> bool {
    path.strip_prefix(CACHE).is_some_and(|rest| rest.starts_with('/'))
}

/// The digits of a version's number, padded so that names sort as numbers do.
const VERSION_DIGITS: usize = 10;

/// The file of a version of a table or of a database, in the folder of its versions.
pub(crate) fn version_file(number: u64) -> String {
    format!("v{number:0VERSION_DIGITS$}.json")
}

/// The number of a version, from the name of its file; `None` for a name of any other form.
pub(crate) fn version_number(file: &str) -> Option<u64> {
    let digits = file.strip_prefix('v')?.strip_suffix(".json")?;
    let is_number = digits.len() == VERSION_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// `<database>/<table>`, below the folders that have a folder for each table.
pub(crate) fn table_folder(table: &TableName) -> String {
    format!("{}/{}", table.database(), table.table())
}

/// The folder of a table's facts. The paths of its files in a table version are relative to it.
pub(crate) fn facts_folder(table: &TableName) -> String {
    format!("{FACTS}/{}", table_folder(table))
}

/// A file of facts, in the folder of its partition: `number` counts the files of the load or compaction.
pub(crate) fn fact_file(load: ContentId, number: usize, content: ContentId) -> String {
    format!("{}-{number:05}-{}.parquet", load.short(), content.short())
}

/// Is this the name of a file of facts?
pub(crate) fn is_fact_file(name: &str) -> bool {
    name.ends_with(".parquet")
}

/// The list of rejects of a load.
pub(crate) fn reject_list(table: &TableName, load: ContentId, content: ContentId) -> String {
    format!("{REJECTS}/{}/{}-{}.csv", table_folder(table), load.short(), content.short())
}

/// The list of anomalies that stopped a load.
pub(crate) fn anomaly_list(table: &TableName, load: ContentId, content: ContentId) -> String {
    format!("{REJECTS}/{}/{}-suspicions-{}.csv", table_folder(table), load.short(), content.short())
}

/// The rows that a load kept out of its table.
pub(crate) fn quarantine_file(table: &TableName, load: ContentId, content: ContentId) -> String {
    format!("{QUARANTINE}/{}/{}-{}.parquet", table_folder(table), load.short(), content.short())
}

/// The quality report of a load.
pub(crate) fn quality_report(table: &TableName, load: ContentId, content: ContentId) -> String {
    format!("{QUALITY}/{}/{}-{}.json", table_folder(table), load.short(), content.short())
}

/// The load that a file about a load is named after, as [`ContentId::short`] writes it.
pub(crate) fn load_of(name: &str) -> Option<&str> {
    let digits = name.get(..ContentId::SHORT_DIGITS)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then_some(digits)
}

/// The folder of the tiles of a table for what is asked of it.
pub(crate) fn tiles_folder(table: &TableName, question: ContentId) -> String {
    format!("{PARTIALS}/{}/{}", table_folder(table), question.short())
}

const TILE_SUFFIX: &str = ".tile";

/// A tile: of the file of facts with this key, whose facts lie beyond so many lengths of windows, source by source.
pub(crate) fn tile_file(file: ContentId, levels: &[usize]) -> String {
    let levels: Vec<String> = levels.iter().map(ToString::to_string).collect();
    format!("{}-{}{TILE_SUFFIX}", file.short(), levels.join("."))
}

/// The first digits of the file's key, and the levels, from the name of a tile; `None` for a name of any other form.
pub(crate) fn tile_of(name: &str) -> Option<(&str, Vec<usize>)> {
    let (file, levels) = name.strip_suffix(TILE_SUFFIX)?.split_once('-')?;
    let is_key = file.len() == ContentId::SHORT_DIGITS && file.bytes().all(|b| b.is_ascii_hexdigit());
    let levels = levels.split('.').map(|level| level.parse().ok()).collect::<Option<Vec<usize>>>()?;
    is_key.then_some((file, levels))
}

/// The folder of the binding of a set's name.
pub(crate) fn definition_folder(set: &SetName) -> String {
    format!("{DEFINITIONS}/{set}")
}

/// The folder of a set's materializations.
pub(crate) fn materializations_folder(set: &SetName) -> String {
    format!("{MATERIALIZED}/{set}")
}

/// The folder of a materialization, in the folder of its set. The id identifies it; the as-of is there for people.
pub(crate) fn materialization_folder(as_of: AsOf, id: ContentId) -> String {
    let instant = as_of.to_datetime().map_or_else(|| as_of.micros().to_string(), |t| t.format("%Y%m%dT%H%M%S%.6fZ").to_string());
    format!("{instant}-{id}")
}

/// The as-of that begins the name of a materialization's folder; `None` for other names, and for years of more than four digits.
pub(crate) fn as_of_of_folder(folder: &str) -> Option<AsOf> {
    let (instant, _) = folder.rsplit_once('-')?;
    let instant = chrono::NaiveDateTime::parse_from_str(instant, "%Y%m%dT%H%M%S%.6fZ").ok()?;
    Some(AsOf::from_micros(instant.and_utc().timestamp_micros()))
}

/// Is this the folder of the materialization with this id?
pub(crate) fn is_materialization_folder(folder: &str, id: ContentId) -> bool {
    folder.strip_suffix(&id.to_string()).is_some_and(|rest| rest.ends_with('-'))
}

/// The folder of the runs of an extract.
pub(crate) fn runs_folder(extract: &str) -> String {
    format!("{EXTRACTS}/{extract}")
}

/// The folder of a run of an extract.
pub(crate) fn run_folder(extract: &str, run: &str) -> String {
    format!("{EXTRACTS}/{extract}/{run}")
}

/// The folder of the training sets that were kept under a name.
pub(crate) fn training_sets_folder(name: &str) -> String {
    format!("{TRAINING}/{name}")
}

/// The folder of a kept training set, in the folder of its name.
pub(crate) fn training_set_folder(id: ContentId) -> String {
    id.to_string()
}

/// The id of the training set in this folder; `None` for a folder of any other name.
pub(crate) fn training_set_id(folder: &str) -> Option<ContentId> {
    folder.parse().ok().filter(|id: &ContentId| id.to_string() == folder)
}

/// The folder of the models that were recorded under a name.
pub(crate) fn models_folder(name: &str) -> String {
    format!("{MODELS}/{name}")
}

/// The folder of a recorded model, in the folder of its name.
pub(crate) fn model_folder(id: ContentId) -> String {
    id.to_string()
}

/// The id of the model in this folder; `None` for a folder of any other name.
pub(crate) fn model_id(folder: &str) -> Option<ContentId> {
    folder.parse().ok().filter(|id: &ContentId| model_folder(*id) == folder)
}

/// Whose rows a part file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartOf {
    /// Those of the materialization, extract or training set.
    Whole,
    /// Those by some of a materialization's keys: which of its partial rows, counted from 0.
    PartialRows(usize),
}

const WHOLE_PREFIX: &str = "part-";
const PARTIAL_PREFIX: &str = "by-";

/// A file with rows, in the folder of its materialization, extract or training set; `number` counts the files of the same rows.
pub(crate) fn part_file(of: PartOf, number: usize, content: ContentId) -> String {
    let prefix = match of {
        PartOf::Whole => WHOLE_PREFIX.to_owned(),
        PartOf::PartialRows(index) => format!("{PARTIAL_PREFIX}{index}-"),
    };
    format!("{prefix}{number:05}-{}.parquet", content.short())
}

/// Is this the name of a part file?
pub(crate) fn is_part_file(name: &str) -> bool {
    [WHOLE_PREFIX, PARTIAL_PREFIX].iter().any(|prefix| name.starts_with(prefix)) && name.ends_with(".parquet")
}

/// What a staging file has after the name that it is to get. Listings of object stores skip such names.
pub(crate) fn staging_suffix(digits: &str) -> String {
    format!("#{digits}")
}

/// The name that a staging file is to get; `None` for a file that is no staging file.
pub(crate) fn staged_for(name: &str) -> Option<&str> {
    let (target, digits) = name.rsplit_once('#')?;
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognized_as_they_are_made() {
        let id = ContentId::of(b"x");
        for number in [0, 7, 9_999_999_999] {
            assert_eq!(version_number(&version_file(number)), Some(number));
        }
        for name in ["v7.json", "v+000000007.json", "v18446744073709551615.json", "v0000000007", "0000000007.json", "v.json"] {
            assert_eq!(version_number(name), None, "{name}");
        }
        for of in [PartOf::Whole, PartOf::PartialRows(0), PartOf::PartialRows(12)] {
            assert!(is_part_file(&part_file(of, 3, id)));
        }
        let table: TableName = "sales.trips".parse().unwrap();
        for path in [reject_list, anomaly_list, quarantine_file, quality_report].map(|name| name(&table, id, id)) {
            let name = path.rsplit('/').next().unwrap();
            assert_eq!(load_of(name).map(str::to_owned), Some(id.short()), "{path}");
        }
        assert!(is_fact_file(&fact_file(id, 0, id)));
        for as_of in [AsOf::from_micros(0), AsOf::END_OF_TIME] {
            assert!(is_materialization_folder(&materialization_folder(as_of, id), id));
        }
        assert_eq!(training_set_id(&training_set_folder(id)), Some(id));
        assert_eq!(training_set_id(&training_set_folder(id).to_uppercase()), None);
        assert_eq!(model_id(&model_folder(id)), Some(id));
        assert_eq!(model_id(&model_folder(id).to_uppercase()), None);
        for levels in [vec![0], vec![3, 0, 12]] {
            assert_eq!(tile_of(&tile_file(id, &levels)), Some((id.short().as_str(), levels)));
        }
        for name in ["0123456789abcdef-.tile", "0123456789abcdef-a.tile", "0123456789abcdef-1", "01-1.tile", "notes.tile"] {
            assert_eq!(tile_of(name), None, "{name}");
        }
        assert_eq!(staged_for(&format!("a/{}{}", version_file(1), staging_suffix("12"))), Some("a/v0000000001.json"));
        for name in ["v1.json", "v1.json#", "v1.json#12a", "#", ""] {
            assert_eq!(staged_for(name), None, "{name}");
        }
    }
}
