//! Which published materializations would be others over the facts as they are now, and why.
//! A materialization is stale exactly if `materialize` would give its as-of another id. What ids are made of decides, so no file of
//! facts and no rows are looked at.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use serde_json::json;

use super::{
    binding::check_binding,
    definition::DeclaredThen,
    published::{Listed, is_damage, manifests},
    run::{Inputs, input_table},
    stale_report::{Rewrite, StaleFile, StaleMaterialization, StaleReason, Staleness},
};
use crate::{
    catalog::{Column, TableVersion},
    error::{Error, Result},
    feature_set::{FeatureSet, difference},
    manifest::{EngineVersions, InputFile, InputTable, Manifest},
    name::{ContentId, TableName},
    scan::VisibleTable,
    time::Horizon,
    workspace::{PinnedTable, Workspace},
};

/// Compares what is published of a set with what `materialize` would make now.
pub(crate) async fn stale(workspace: &Workspace, set: &FeatureSet) -> Result<Staleness> {
    let mut now = Now::pin(workspace, set).await?;
    let (mut stale, mut current, mut damaged, mut published) = (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
    let mut listed = std::pin::pin!(manifests(workspace, &set.name).await?);
    while let Some(found) = listed.try_next().await? {
        match found {
            Listed::Damaged(manifest) => damaged.push(manifest),
            Listed::Manifest(manifest) => {
                published.insert(manifest.id);
                match now.compare(&manifest).await? {
                    Some(found) => stale.push(found),
                    None => current.push((manifest.as_of, manifest.id)),
                }
            }
        }
    }
    for found in &mut stale {
        found.is_renewed = found.id_now.is_some_and(|id| published.contains(&id));
    }
    stale.sort_by_key(|found| (found.as_of, found.id));
    current.sort_unstable();
    let current = current.into_iter().map(|(_, id)| id).collect();
    Ok(Staleness { set: set.name.clone(), views: set.views().to_vec(), stale, current, damaged })
}

/// What a set's materializations would be made of now.
struct Now<'a> {
    workspace: &'a Workspace,
    set: &'a FeatureSet,
    engine: EngineVersions,
    /// The newest versions of the set's tables, in its order; `None` for a table that is not in the catalog any more.
    tables: Vec<(TableName, Option<PinnedTable>)>,
    /// All of them, if all are there.
    pinned: Option<Vec<PinnedTable>>,
    /// Does the root hold another definition under the set's name? Then nothing can be made.
    is_taken: bool,
    /// Read when a definition differs.
    declared: Option<DeclaredThen>,
    /// Older versions of tables; `None` for one that was removed or cannot be read.
    versions: BTreeMap<(TableName, u64), Option<TableVersion>>,
}

impl<'a> Now<'a> {
    async fn pin(workspace: &'a Workspace, set: &'a FeatureSet) -> Result<Self> {
        let mut tables = Vec::with_capacity(set.tables.len());
        for table in &set.tables {
            let newest = workspace.catalog.find(table).await?;
            tables.push((table.clone(), newest.map(|version| workspace.pin(version)).transpose()?));
        }
        let pinned = tables.iter().map(|(_, pinned)| pinned.clone()).collect();
        let engine = EngineVersions::current();
        let is_taken = match check_binding(workspace, set).await {
            Err(Error::AlreadyExists { .. }) => true,
            checked => checked.map(|()| false)?,
        };
        Ok(Self { workspace, set, engine, tables, pinned, is_taken, declared: None, versions: BTreeMap::new() })
    }

    /// What is stale about a materialization; `None` if it would be the same.
    async fn compare(&mut self, manifest: &Manifest) -> Result<Option<StaleMaterialization>> {
        let horizon = self.set.horizon(manifest.as_of);
        let id_now = match &self.pinned {
            Some(pinned) => Some(Inputs::of(self.set, horizon, pinned)?.id),
            None => None,
        };
        if id_now == Some(manifest.id) {
            return Ok(None);
        }
        let mut reasons = Vec::new();
        if manifest.fingerprint.id != self.set.fingerprint.id {
            let declared = match self.declared.take() {
                Some(known) => known,
                None => DeclaredThen::read(self.workspace, &self.set.name).await?,
            };
            let differs = declared.difference(&manifest.fingerprint, self.set);
            self.declared = Some(declared);
            reasons.push(StaleReason::Definition { was: manifest.fingerprint.id, now: self.set.fingerprint.id, differs });
        }
        if manifest.engine != self.engine {
            reasons.push(StaleReason::Engine { was: manifest.engine.clone(), now: self.engine.clone() });
        }
        for input in &manifest.inputs {
            reasons.extend(self.of_table(input, manifest.horizon()).await?);
        }
        let id_now = id_now.filter(|_| !self.is_taken);
        let (as_of, cutoff, id, rows) = (manifest.as_of, manifest.cutoff, manifest.id, manifest.rows);
        Ok(Some(StaleMaterialization { as_of, cutoff, id, rows, id_now, is_renewed: false, reasons }))
    }

    /// What is different about a table. A table that the set does not read any more is passed over: the definition says so.
    async fn of_table(&mut self, was: &InputTable, horizon: Horizon) -> Result<Vec<StaleReason>> {
        let Some((_, pinned)) = self.tables.iter().find(|(table, _)| *table == was.table) else { return Ok(Vec::new()) };
        let Some(pinned) = pinned else { return Ok(vec![StaleReason::Dropped { table: was.table.clone() }]) };
        let visible = VisibleTable::new(pinned, horizon)?;
        let now = input_table(&visible);
        let mut reasons = of_declaration(was, &now);
        if was.files != now.files {
            let then = self.version(&was.table, was.version).await?;
            reasons.extend(of_files(was, &now, visible.pinned().version.as_ref(), then));
        }
        Ok(reasons)
    }

    /// An older version of a table, from which the rows of files that are gone are known.
    async fn version(&mut self, table: &TableName, number: u64) -> Result<Option<&TableVersion>> {
        let key = (table.clone(), number);
        if !self.versions.contains_key(&key) {
            let found = match self.workspace.catalog.version(table, number).await {
                Err(error) if is_damage(&error) => {
                    tracing::warn!(%error, "the rows of files that are gone are not known");
                    None
                }
                found => found?,
            };
            self.versions.insert(key.clone(), found);
        }
        Ok(self.versions.get(&key).and_then(Option::as_ref))
    }
}

/// What is different about the declaration and the columns of a table.
pub(super) fn of_declaration(was: &InputTable, now: &InputTable) -> Vec<StaleReason> {
    let table = || was.table.clone();
    let mut reasons = Vec::new();
    if let Some(differs) = difference(&json!(was.declared), &json!(now.declared)) {
        reasons.push(StaleReason::Declaration { table: table(), differs });
    }
    let types = |columns: &[Column]| -> Vec<(String, String)> {
        columns.iter().map(|column| (column.name.clone(), column.data_type.clone())).collect()
    };
    let (before, after) = (types(&was.columns), types(&now.columns));
    if before != after {
        let lacks = |columns: &[(String, String)], name: &str| columns.iter().all(|(known, _)| known != name);
        let only = |of: &[(String, String)], other: &[(String, String)]| -> Vec<String> {
            of.iter().filter(|(name, _)| lacks(other, name)).map(|(name, _)| name.clone()).collect()
        };
        let retyped = before.iter().filter_map(|(name, was)| {
            let (_, now) = after.iter().find(|(known, _)| known == name)?;
            (was != now).then(|| (name.clone(), was.clone(), now.clone()))
        });
        let (retyped, added, removed) = (retyped.collect(), only(&after, &before), only(&before, &after));
        reasons.push(StaleReason::Columns { table: table(), added, removed, retyped });
    }
    reasons
}

/// What is different about the files of a table. `then` is the version that the materialization was made of, if it is still there.
pub(super) fn of_files(
    was: &InputTable,
    now: &InputTable,
    newest: &TableVersion,
    then: Option<&TableVersion>,
) -> Vec<StaleReason> {
    // The files of a version are in the order of their paths.
    let entry = |version: &TableVersion, path: &str| -> Option<(u64, Vec<ContentId>)> {
        let position = version.files().binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        version.files().get(position).map(|file| (file.rows, file.loads.clone()))
    };
    let by_path = |files: &[InputFile]| -> BTreeMap<String, InputFile> {
        files.iter().map(|file| (file.path.clone(), file.clone())).collect()
    };
    let (before, after) = (by_path(&was.files), by_path(&now.files));
    let mut partitions: BTreeMap<Vec<Option<String>>, Moved> = BTreeMap::new();
    let mut changed = Vec::new();
    for (path, file) in &before {
        match after.get(path) {
            Some(same) if same == file => {}
            Some(other) => changed.push(StaleFile::new(other, entry(newest, path).map(|(rows, _)| rows))),
            None => {
                let known = then.and_then(|then| entry(then, path));
                partitions.entry(file.partition.clone()).or_default().gone.push(file, known);
            }
        }
    }
    for (path, file) in after.iter().filter(|(path, _)| !before.contains_key(*path)) {
        partitions.entry(file.partition.clone()).or_default().new.push(file, entry(newest, path));
    }
    let table = || was.table.clone();
    let (mut reasons, mut new, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for (values, moved) in partitions {
        match (moved.gone.files.is_empty(), moved.new.files.is_empty()) {
            (true, _) => new.extend(moved.new.files),
            (_, true) => gone.extend(moved.gone.files),
            (false, false) => {
                let by = moved.rewrite();
                let (partition, was, now) = (newest.partition_name(&values), moved.gone.files, moved.new.files);
                reasons.push(StaleReason::ReplacedFiles { table: table(), partition, was, now, by });
            }
        }
    }
    if !new.is_empty() {
        reasons.insert(0, StaleReason::NewFiles { table: table(), files: new });
    }
    if !gone.is_empty() {
        reasons.push(StaleReason::FilesGone { table: table(), files: gone });
    }
    if !changed.is_empty() {
        reasons.push(StaleReason::FilesChanged { table: table(), files: changed });
    }
    reasons
}

/// The files of a partition that went and came.
#[derive(Default)]
struct Moved {
    gone: Files,
    new: Files,
}

#[derive(Default)]
struct Files {
    files: Vec<StaleFile>,
    /// The loads whose rows they hold; meaningless if one of the files does not say.
    loads: BTreeSet<ContentId>,
    says_not: bool,
}

impl Files {
    fn push(&mut self, file: &InputFile, known: Option<(u64, Vec<ContentId>)>) {
        self.says_not |= known.as_ref().is_none_or(|(_, loads)| loads.is_empty());
        self.files.push(StaleFile::new(file, known.as_ref().map(|(rows, _)| *rows)));
        self.loads.extend(known.into_iter().flat_map(|(_, loads)| loads));
    }

    fn rows(&self) -> Option<u64> {
        self.files.iter().map(|file| file.rows).sum()
    }
}

impl Moved {
    /// A compaction moves all rows of the same loads into other files. Anything else that takes files away replaces them.
    fn rewrite(&self) -> Rewrite {
        let Self { gone, new } = self;
        let is_same = !gone.says_not && !new.says_not && gone.loads == new.loads && gone.rows() == new.rows();
        if is_same { Rewrite::Compacted } else { Rewrite::Replaced }
    }
}

impl StaleFile {
    fn new(file: &InputFile, rows: Option<u64>) -> Self {
        Self { path: file.path.clone(), bytes: file.size, rows }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        catalog::{FactTable, FileEntry, KnownAt, TableLocation},
        feature_set::Fingerprint,
        manifest::materialization_id,
        storage::FileIdentity,
        time::AsOf,
    };

    fn column(name: &str, data_type: &str) -> Column {
        Column { name: name.into(), data_type: data_type.into(), nullable: true }
    }

    fn declared() -> FactTable {
        FactTable::new("at", KnownAt::after(TimeDelta::hours(1))).key("zone")
    }

    /// A file of a month with so many rows of these loads.
    fn file(path: &str, month: u32, rows: u64, loads: &[&str]) -> FileEntry {
        let hash = ContentId::of(format!("{path} {rows}").as_bytes());
        FileEntry {
            path: format!("month={month}/{path}"),
            identity: FileIdentity { size: 100 * rows, e_tag: None, hash: Some(hash) },
            rows,
            partition: vec![Some(month.to_string())],
            event: None,
            known: None,
            loads: loads.iter().map(|load| ContentId::of(load.as_bytes())).collect(),
            full_at: None,
        }
    }

    /// A version with these files, and the table as a manifest lists it if all of them may hold visible rows.
    fn table(mut files: Vec<FileEntry>) -> (TableVersion, InputTable) {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let partition_columns = vec![column("month", "Int32")];
        let name: TableName = "trips".parse().unwrap();
        let version = TableVersion {
            columns: vec![column("at", "Timestamp(µs, \"UTC\")"), column("zone", "Int64")],
            files,
            ..TableVersion::empty(name.clone(), TableLocation::Managed, declared(), partition_columns)
        };
        let listed = |file: &FileEntry| InputFile {
            path: file.path.clone(),
            size: file.identity.size,
            content: file.identity.content(),
            partition: file.partition.clone(),
        };
        let input = InputTable {
            table: name,
            version: 1,
            declared: declared(),
            columns: version.columns.iter().chain(&version.partition_columns).cloned().collect(),
            files: version.files.iter().map(listed).collect(),
            null_event_times: 0,
        };
        (version, input)
    }

    fn reasons(before: Vec<FileEntry>, after: Vec<FileEntry>) -> Vec<String> {
        let ((then, was), (newest, now)) = (table(before), table(after));
        of_files(&was, &now, &newest, Some(&then)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn files_that_come_go_and_move_are_told_apart() {
        let (a, b, c) = (file("a", 1, 10, &["x"]), file("b", 1, 5, &["y"]), file("c", 2, 7, &["z"]));
        let of = |files: &[&FileEntry]| files.iter().map(|file| (*file).clone()).collect::<Vec<_>>();
        assert!(reasons(of(&[&a, &b]), of(&[&a, &b])).is_empty());
        assert_eq!(
            reasons(of(&[&a]), of(&[&a, &b, &c])),
            ["late facts or corrections in `trips`: 2 files with 12 rows came, `month=1/b`, `month=2/c`"]
        );
        assert_eq!(
            reasons(of(&[&a, &c]), of(&[&a])),
            ["files of `trips` are gone from it or hold nothing visible: 1 file with 7 rows, `month=2/c`"]
        );
        // A compaction has all rows of the same loads.
        let merged = file("m", 1, 15, &["x", "y"]);
        assert_eq!(
            reasons(of(&[&a, &b, &c]), of(&[&merged, &c])),
            ["files of month=1 of `trips`: 2 files with 15 rows compacted into 1 file with 15 rows, `month=1/m`"]
        );
        // More rows, other loads, or loads that are not recorded are no compaction.
        for (other, rows) in
            [(file("m", 1, 16, &["x", "y"]), 16), (file("m", 1, 15, &["x", "w"]), 15), (file("m", 1, 15, &[]), 15)]
        {
            assert_eq!(
                reasons(of(&[&a, &b]), of(&[&other])),
                [format!("files of month=1 of `trips`: 2 files with 15 rows replaced by 1 file with {rows} rows, `month=1/m`")]
            );
        }
        // The same path with another content.
        assert_eq!(
            reasons(of(&[&a, &c]), of(&[&file("a", 1, 11, &["x"]), &c])),
            ["files of `trips` have changed: 1 file with 11 rows now, `month=1/a`"]
        );
        // Of a version that was removed the rows are not known.
        let ((_, was), (newest, now)) = (table(of(&[&a, &b])), table(of(&[&merged])));
        let told = of_files(&was, &now, &newest, None);
        assert_eq!(told[0].to_string(), "files of month=1 of `trips`: 2 files replaced by 1 file with 15 rows, `month=1/m`");
        // All kinds at once, each once.
        let all = reasons(
            of(&[&a, &b, &c, &file("d", 3, 1, &["v"])]),
            of(&[&merged, &file("c", 2, 8, &["z"]), &file("e", 4, 2, &["u"])]),
        );
        assert_eq!(all.len(), 4, "{all:?}");
    }

    #[test]
    fn declarations_and_columns_are_told_by_what_differs() {
        let (_, was) = table(vec![file("a", 1, 10, &["x"])]);
        let told = |change: &dyn Fn(&mut InputTable)| -> Vec<String> {
            let mut now = was.clone();
            change(&mut now);
            of_declaration(&was, &now).iter().map(ToString::to_string).collect()
        };
        assert!(told(&|now| (now.version, now.null_event_times, now.columns[0].nullable) = (9, 9, false)).is_empty());
        assert_eq!(
            told(&|now| now.declared = FactTable::new("at", KnownAt::after(TimeDelta::zero())).key("zone")),
            [
                "another declaration of `trips` than that of the materialization: `known_at.delay_micros` is 3600000000 there and 0 here"
            ]
        );
        let more = told(&|now| {
            now.columns[1].data_type = "Utf8".into();
            now.columns[2].name = "part".into();
            now.columns.push(column("tip", "Float64"));
        });
        assert_eq!(more, ["other columns of `trips`: added `part`, `tip`; removed `month`; `zone` was Int64 and is Utf8"]);
        assert_eq!(told(&|now| now.columns.swap(0, 1)), ["other columns of `trips`: they have another order"]);
    }

    proptest! {
        /// The reasons are exactly what moves the id.
        #[test]
        fn there_is_a_reason_exactly_if_the_id_is_another_one(
            before in proptest::collection::btree_map(0..6_usize, (1..3_u32, 1..3_u64), 0..5),
            after in proptest::collection::btree_map(0..6_usize, (1..3_u32, 1..3_u64), 0..5),
            (zone, extra) in (any::<bool>(), any::<bool>()),
        ) {
            let files = |of: &BTreeMap<usize, (u32, u64)>| -> Vec<FileEntry> {
                // Files of one path, of any month.
                of.iter().map(|(path, (month, rows))| FileEntry { path: format!("f{path}"), ..file("f", *month, *rows, &["x"]) }).collect()
            };
            let ((then, was), (newest, mut now)) = (table(files(&before)), table(files(&after)));
            if zone {
                now.declared = now.declared.zone("Asia/Tokyo".parse().unwrap());
            }
            if extra {
                now.columns.push(column("tip", "Float64"));
            }
            let hash = ContentId::of(b"x");
            let fingerprint = Fingerprint { id: hash, declared: hash, behaviour: hash };
            let id = |input: &InputTable| {
                let inputs = std::slice::from_ref(input);
                let horizon = Horizon::before(AsOf::from_micros(0));
                materialization_id(&"trips_v1".parse().unwrap(), &fingerprint, horizon, &EngineVersions::current(), inputs)
            };
            let reasons: Vec<_> = of_declaration(&was, &now).into_iter().chain(of_files(&was, &now, &newest, Some(&then))).collect();
            prop_assert_eq!(id(&was) == id(&now), reasons.is_empty(), "{:?}", reasons);
        }
    }
}
